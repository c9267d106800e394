//! Says in the log when Redis is gone and when it is back, once each. How it is lives in `broker-redis`, `/ready` and metrics.

use std::time::Duration;

use broker::Engine;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

/// Time between two looks. Nothing waits for what is logged here.
const INTERVAL: Duration = Duration::from_millis(500);
/// So long there may be no connection at the start before it is worth a line: connecting takes a moment.
const GRACE: Duration = Duration::from_secs(1);

/// Looks at Redis until the node drains, or it is aborted.
pub async fn run(engine: Engine) {
    let mut log = Log::default();
    loop {
        if engine.is_draining() {
            return;
        }
        let line = log.look(&engine.troubles(), Instant::now());
        match line {
            Some(Line::Gone { troubles }) => error!(
                troubles,
                "Redis cannot be used: publishes fail with 503, topics with history cannot be subscribed to, who is connected stays; this node is not \
                 ready and goes on by itself when Redis is back"
            ),
            Some(Line::Other { troubles }) => error!(troubles, "Redis cannot be used still, and for another reason"),
            Some(Line::Back { after }) => info!(after_s = after.as_secs_f32(), "Redis can be used again"),
            None => {}
        }
        sleep(INTERVAL).await;
    }
}

/// What was logged last.
#[derive(Debug, Default)]
struct Log {
    /// Since when there is trouble, and which was logged.
    trouble: Option<(Instant, Option<String>)>,
}

/// What is to be logged.
#[derive(Debug, Eq, PartialEq)]
enum Line {
    Gone { troubles: String },
    Other { troubles: String },
    Back { after: Duration },
}

impl Log {
    fn look(&mut self, troubles: &[String], now: Instant) -> Option<Line> {
        if troubles.is_empty() {
            let (since, logged) = self.trouble.take()?;
            return logged.map(|_| Line::Back { after: now - since });
        }
        let (since, logged) = self.trouble.get_or_insert((now, None));
        let troubles = troubles.join("; ");
        if now - *since < GRACE || logged.as_ref() == Some(&troubles) {
            return None;
        }
        Some(match logged.replace(troubles.clone()) {
            None => Line::Gone { troubles },
            Some(_) => Line::Other { troubles },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_and_its_end_is_one_line() {
        let start = Instant::now();
        let mut log = Log::default();
        let mut look = |at_ms: u64, troubles: &[&str]| {
            let troubles: Vec<String> = troubles.iter().map(|&trouble| trouble.to_owned()).collect();
            log.look(&troubles, start + Duration::from_millis(at_ms))
        };
        assert_eq!(look(0, &["connecting"]), None);
        assert_eq!(look(500, &[]), None);
        assert_eq!(look(1_000, &["refused"]), None);
        assert_eq!(look(2_000, &["refused"]), Some(Line::Gone { troubles: "refused".to_owned() }));
        assert_eq!(look(2_500, &["refused"]), None);
        assert_eq!(look(3_000, &["refused", "deaf"]), Some(Line::Other { troubles: "refused; deaf".to_owned() }));
        assert_eq!(look(5_000, &[]), Some(Line::Back { after: Duration::from_secs(4) }));
        assert_eq!(look(5_500, &[]), None);
    }
}
