//! What every backplane must do.

use std::sync::Arc;

use broker_core::testing::backplane_suite;
use broker_resp::testing::Server;

use crate::world::backplane;

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_every_backplane_passes() {
    let server = Server::start().await;
    backplane_suite(Arc::new(backplane(server.target()).await)).await;
}
