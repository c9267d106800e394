//! What the numbers on the wire mean to a client. The server's table of them does not live here.
//!
//! spec: centrifuge client protocol, "Codes".

/// The client was closed by its owner.
pub(crate) const CLOSED_BY_CLIENT: u16 = 0;
/// Credentials were refused.
pub(crate) const INVALID_TOKEN: u16 = 3500;

const EXPIRED: u16 = 3005;
const STATE_INVALIDATED: u16 = 3014;
const ERROR_TOKEN_EXPIRED: u32 = 109;
const UNSUBSCRIBED_EXPIRED: u32 = 2501;
const UNSUBSCRIBED_STATE_INVALIDATED: u32 = 2502;

/// Whether a connection that ended with this close code must not be made again.
pub(crate) fn close_is_final(code: u16) -> bool {
    matches!(code, 3500..=3999 | 4500..=4999)
}

/// Whether the token that was used is worthless after this close code.
pub(crate) fn close_spoils_token(code: u16) -> bool {
    matches!(code, EXPIRED | STATE_INVALIDATED | INVALID_TOKEN)
}

/// Whether positions, and tokens of subscriptions, are worthless after this close code.
pub(crate) fn close_spoils_positions(code: u16) -> bool {
    code == STATE_INVALIDATED
}

/// Whether the same command may work later, with a new token where [`error_spoils_token`].
pub(crate) fn error_is_temporary(code: u32, temporary: bool) -> bool {
    temporary || code < 100
}

/// Whether the token of the refused command is past its end.
pub(crate) fn error_spoils_token(code: u32) -> bool {
    code == ERROR_TOKEN_EXPIRED
}

/// Whether the server wants the subscription to be made again.
pub(crate) fn unsubscribe_is_temporary(code: u32) -> bool {
    code >= 2500
}

/// Whether the token of the subscription is worthless.
pub(crate) fn unsubscribe_spoils_token(code: u32) -> bool {
    matches!(code, UNSUBSCRIBED_EXPIRED | UNSUBSCRIBED_STATE_INVALIDATED)
}

/// Whether the position of the subscription is worthless.
pub(crate) fn unsubscribe_spoils_position(code: u32) -> bool {
    code == UNSUBSCRIBED_STATE_INVALIDATED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, expected: bool) {
        assert_eq!(close_is_final(code), expected, "{code}");
    }

    #[test]
    fn only_two_ranges_of_close_codes_are_final() {
        for code in [1000, 1006, 1009, 3000, 3001, 3012, 3499, 4000, 4499, 5000] {
            check(code, false);
        }
        for code in [3500, 3501, 3999, 4500, 4999] {
            check(code, true);
        }
    }
}
