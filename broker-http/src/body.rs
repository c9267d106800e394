//! Bodies: the one that answers have, and reading one of a request within its bounds.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Body, Frame, SizeHint};

/// The body of every answer of this crate: one piece, or nothing.
#[derive(Clone, Debug, Default)]
pub struct ResponseBody(Bytes);

impl ResponseBody {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes of the answer.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// An answer in JSON that nobody keeps.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Most bytes that are read only so that a refusal is heard.
const DISCARD_MAX: u64 = 16 << 20;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum ReadFailed<E> {
    /// It has more bytes than allowed.
    TooLarge,
    /// The connection broke, or the client broke the rules of the transport.
    Broken(E),
}

/// Reads a body of at most `max` bytes. A body that announces more is not read at all.
pub(crate) async fn read<B: Body>(mut body: Pin<&mut B>, max: usize) -> Result<Bytes, ReadFailed<B::Error>> {
    if body.size_hint().lower() > max as u64 {
        return Err(ReadFailed::TooLarge);
    }
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // Trailers say nothing here.
        let Ok(mut data) = frame.map_err(ReadFailed::Broken)?.into_data() else { continue };
        if data.remaining() > max - whole.len() {
            return Err(ReadFailed::TooLarge);
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            whole.extend_from_slice(chunk);
            let len = chunk.len();
            data.advance(len);
        }
    }
    Ok(whole.into())
}

/// Reads the rest of a body that is too large, within bounds: where bytes are left unread the connection is reset, and most clients then meet a
/// broken pipe rather than the answer.
pub(crate) async fn discard<B: Body>(mut body: Pin<&mut B>) {
    if body.size_hint().lower() > DISCARD_MAX {
        return;
    }
    let mut left = DISCARD_MAX;
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let len = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        if len > left {
            return;
        }
        left -= len;
    }
}
