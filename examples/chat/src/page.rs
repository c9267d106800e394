//! The page's files.

use kit::File;

/// All files of the page.
pub const FILES: &[File] = &[
    File::html("/", include_str!("../page/index.html")),
    File::html("/join/{code}", include_str!("../page/index.html")),
    File::css("/chat.css", include_str!("../page/chat.css")),
    File::js("/chat.js", include_str!("../page/chat.js")),
    File::js("/api.js", include_str!("../page/api.js")),
    File::js("/session.js", include_str!("../page/session.js")),
    File::js("/talk.js", include_str!("../page/talk.js")),
    File::js("/dialogs.js", include_str!("../page/dialogs.js")),
    File::js("/unsent.js", include_str!("../page/unsent.js")),
];
