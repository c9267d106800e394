//! What every backplane must do.

use std::sync::Arc;

use broker_core::testing::backplane_suite;
use broker_redis::{Options, RedisBackplane};

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_every_backplane_passes() {
    let url = std::env::var("T_REDIS").unwrap();
    let redis = RedisBackplane::connect(Options::new(url.parse().expect("a URL"))).expect("a legal prefix");
    while !redis.health().troubles.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    backplane_suite(Arc::new(redis)).await;
}
