//! A topic whose publications are values of one type, as JSON.

use std::{fmt, marker::PhantomData};

use broker_core::{
    Gap, HistoryError, HistoryQuery, Payload, Position, Publish, PublishError, Published, StreamItem, SubscribeError, Topic, TopicStream,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::Broker;

/// A handle of one topic whose publications are values of `T`, from [`Broker::topic`].
///
/// ```
/// use broker::{Broker, TypedItem};
///
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Price { cents: u32 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Broker::builder().dev().build()?;
/// let prices = broker.topic::<Price>("prices:7")?;
/// let mut stream = prices.subscribe()?;
/// assert!(matches!(stream.next().await, Some(TypedItem::Live { .. })));
/// prices.publish(&Price { cents: 995 }).await?;
/// assert!(matches!(stream.next().await, Some(TypedItem::Value { value: Price { cents: 995 }, .. })));
/// # Ok(())
/// # }
/// ```
pub struct TypedTopic<T> {
    broker: Broker,
    topic: Topic,
    values: PhantomData<fn(T) -> T>,
}

impl<T> TypedTopic<T> {
    pub(crate) fn new(broker: Broker, topic: Topic) -> Self {
        Self { broker, topic, values: PhantomData }
    }

    /// The name of the topic.
    pub fn name(&self) -> &Topic {
        &self.topic
    }
}

impl<T: Serialize> TypedTopic<T> {
    /// Publishes a value. Cancelled, it may have happened or not.
    pub async fn publish(&self, value: &T) -> Result<Published, PublishValueError> {
        let json = serde_json::to_vec(value).map_err(|error| PublishValueError::Encode(error.to_string()))?;
        Ok(self.broker.publish(&self.topic, Publish::new(Payload::json(json))).await?)
    }
}

impl<T: DeserializeOwned> TypedTopic<T> {
    /// Listens inside the process, without a session. The first item says that the stream is live.
    pub fn subscribe(&self) -> Result<TypedStream<T>, SubscribeError> {
        Ok(TypedStream { stream: self.broker.subscribe(&self.topic)?, values: PhantomData })
    }

    /// The newest values that are kept, oldest first; what is no `T` is left out. Cancel-safe.
    pub async fn newest(&self, limit: usize) -> Result<Vec<T>, HistoryError> {
        let page = self.broker.history(&self.topic, HistoryQuery { since: None, limit, reverse: true }).await?;
        Ok(page.publications.iter().rev().filter_map(|publication| serde_json::from_slice(publication.data.bytes()).ok()).collect())
    }
}

impl<T> Clone for TypedTopic<T> {
    fn clone(&self) -> Self {
        Self::new(self.broker.clone(), self.topic.clone())
    }
}

impl<T> fmt::Debug for TypedTopic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTopic").field(&self.topic).finish()
    }
}

/// Why a value was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishValueError {
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON: {0}")]
    Encode(String),
    /// The publish failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What a [`TypedStream`] yields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TypedItem<T> {
    /// The stream is live. The first item.
    Live {
        /// The top of the history at this moment; `None` where the namespace keeps none.
        position: Option<Position>,
    },
    /// Someone sent a value.
    Value {
        /// The value.
        value: T,
        /// Its place in the history.
        position: Option<Position>,
    },
    /// A key went from the topic's state, and nothing else was said of it.
    Removed {
        /// The key.
        key: Box<str>,
        /// Its place in the history.
        position: Option<Position>,
    },
    /// Someone sent what is no `T`.
    Unreadable {
        /// Why it is none.
        why: String,
        /// Its place in the history.
        position: Option<Position>,
    },
    /// Publications that this stream does not get.
    Gap(Gap),
}

/// A topic's values inside the process, bounded as [`TopicStream`] is.
#[derive(Debug)]
pub struct TypedStream<T> {
    stream: TopicStream,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> TypedStream<T> {
    /// The next item; `None` when the broker is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<TypedItem<T>> {
        loop {
            return Some(match self.stream.next().await? {
                StreamItem::Live { position } => TypedItem::Live { position },
                StreamItem::Gap(gap) => TypedItem::Gap(gap),
                StreamItem::Publication(publication) => {
                    let position = publication.position;
                    if let Some(key) = publication.key.as_ref().filter(|_| publication.removed && publication.data.is_empty()) {
                        return Some(TypedItem::Removed { key: key.clone(), position });
                    }
                    match serde_json::from_slice(publication.data.bytes()) {
                        Ok(value) => TypedItem::Value { value, position },
                        Err(error) => TypedItem::Unreadable { why: error.to_string(), position },
                    }
                }
                // An item of a kind that says nothing of values.
                _ => continue,
            });
        }
    }
}
