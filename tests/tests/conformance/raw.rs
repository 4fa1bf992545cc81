//! A connection that carries whatever bytes a test writes.

use std::net::SocketAddr;

use sluicegate_tests::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back until the proxy closed.
pub(crate) struct Told {
    pub(crate) text: String,
}

impl Told {
    /// The status of the one answer; the connection ended behind it.
    pub(crate) fn only_status(&self) -> u16 {
        assert_eq!(self.statuses().len(), 1, "{:?}", self.text);
        self.statuses()[0].parse().unwrap()
    }

    /// The statuses of all answers.
    pub(crate) fn statuses(&self) -> Vec<&str> {
        let lines = self.text.match_indices("HTTP/1.1 ");
        lines
            .filter_map(|(at, _)| self.text.get(at + 9..at + 12))
            .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
            .collect()
    }

    /// The one answer's body.
    pub(crate) fn json(&self) -> serde_json::Value {
        let body = self.text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// `error.code` of an OpenAI error that was refused with this status, in a connection that ends.
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.only_status(), status, "{:?}", self.text);
        let head = self.text.split_once("\r\n\r\n").unwrap().0;
        assert!(head.to_lowercase().contains("connection: close"), "{head}");
        let error = &self.json()["error"];
        assert!(error["message"].is_string(), "{error}");
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        error["code"].as_str().unwrap().to_owned()
    }
}

/// Writes bytes on a connection of their own and reads until the proxy closes it.
pub(crate) async fn tell(to: SocketAddr, bytes: impl AsRef<[u8]>) -> Told {
    let mut socket = TcpStream::connect(to).await.unwrap();
    // The proxy may have refused before all was written.
    let _ = socket.write_all(bytes.as_ref()).await;
    let mut read = Vec::new();
    let end = within("the proxy closes", socket.read_to_end(&mut read)).await;
    assert!(end.is_ok() || !read.is_empty(), "reset without an answer");
    Told {
        text: String::from_utf8(read).unwrap(),
    }
}
