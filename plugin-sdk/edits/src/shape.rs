//! What the rules need to know of a request.

/// A request as the rules see it.
#[derive(Debug, Clone, Default)]
pub struct Shape<'a> {
    /// All messages, in order: an edit addresses one by its place here.
    pub messages: Vec<MessageShape<'a>>,
}

/// One message.
#[derive(Debug, Clone)]
pub struct MessageShape<'a> {
    /// Nothing of it may change.
    pub locked: bool,
    /// Messages with the same number stand or fall together: tool calls and their results.
    pub group: Option<u32>,
    /// Its role is `user`.
    pub user: bool,
    /// All parts, in order: an edit addresses one by its place here.
    pub parts: Vec<PartShape<'a>>,
}

/// One part of a message.
#[derive(Debug, Clone, Copy)]
pub enum PartShape<'a> {
    /// Text, whole.
    Text(&'a str),
    /// The text of a tool's answer, whole.
    ToolResult(&'a str),
    /// What no edit may touch: media, a tool call, a part of an unknown type. It goes only together
    /// with its whole message.
    Fixed,
}
