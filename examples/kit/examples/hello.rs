//! The smallest application: `cargo run -p kit --example hello`, or with `two-nodes` behind it.

use broker::{Namespace, Verb};
use kit::{App, File, NoFlags, Pages};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <meta name="page-version" content="{{version}}">
  <title>Hello</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/kit/base.css">
  <script type="module" src="/hello.js"></script>
  <header class="top"><h1>Hello</h1><p class="tools"><span id="live"></span></p></header>
  <main>
    <p id="banner" class="banner" hidden></p>
    <details class="card" open><summary><h2>Connection</h2></summary><div id="log"></div></details>
  </main>
</html>
"#;

const SCRIPT: &str = r#"
import { LiveClient, LiveSocket, showLive } from "/kit/live.js";
const by = (id) => document.getElementById(id);
const connections = [new LiveSocket("Raw", "/ws/hello"), new LiveClient("Topics", { url: "/ws" })];
showLive(connections, { badge: by("live"), log: by("log"), banner: by("banner") });
"#;

const FILES: &[File] = &[File::html("/", PAGE), File::js("/hello.js", SCRIPT)];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::run("hello", async |node, _: NoFlags| {
        let open = Namespace::default().allow(Verb::Subscribe).allow_anonymous();
        let broker = node.builder().anonymous().default_namespace(open).build()?;
        Ok(App::new(broker, Pages::new(FILES).router()))
    })
    .await
}
