//! The slot's config table.

use serde::Deserialize;
use sluicegate_plugin::{ConfigIssue, issue};

use crate::tokens::folded;

/// What the operator may set; defaults as in `config.schema.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Terms that stay, over the whole request: 1 to 1,000.
    pub top_terms: usize,
    /// Passages that stay, over the whole request: 1 to 1,000.
    pub top_chunks: usize,
    /// Messages before the last user message that stay, at most; system messages apart.
    pub history_messages: usize,
    /// Tokens of those messages, at most.
    pub history_tokens: u32,
    /// Whether a sentence that a system message says again goes.
    pub drop_repetitions: bool,
    /// Names of tags around one term, as in `<term name="…">…</term>`.
    pub term_tags: Vec<String>,
    /// Names of tags around one passage.
    pub chunk_tags: Vec<String>,
    /// Words with which the heading, the label or the table of a list of terms begins.
    pub term_headings: Vec<String>,
    /// Words with which the heading or the label of passages begins.
    pub chunk_headings: Vec<String>,
    /// Keys of which a JSON object has one when it is a term.
    pub term_keys: Vec<String>,
    /// Keys of which a JSON object has one when it is a passage.
    pub chunk_keys: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let list = |words: &[&str]| words.iter().copied().map(str::to_owned).collect();
        Self {
            top_terms: 15,
            top_chunks: 3,
            history_messages: 10,
            history_tokens: 2_048,
            drop_repetitions: true,
            term_tags: list(&["term", "entry", "definition"]),
            chunk_tags: list(&[
                "document", "doc", "chunk", "passage", "context", "source", "result", "article",
                "snippet", "excerpt",
            ]),
            term_headings: list(&[
                "terminology",
                "terms",
                "term",
                "glossary",
                "definitions",
                "vocabulary",
                "terminologie",
                "glossaire",
                "termes",
                "glossar",
                "begriffe",
                "glosario",
                "terminología",
                "términos",
                "glossario",
                "termini",
                "glossário",
                "termos",
                "术语",
                "术语表",
                "词汇表",
                "用語",
                "用語集",
                "глоссарий",
                "термины",
            ]),
            chunk_headings: list(&[
                "document",
                "documents",
                "context",
                "passage",
                "passages",
                "source",
                "sources",
                "chunk",
                "chunks",
                "excerpt",
                "excerpts",
                "result",
                "results",
                "search results",
                "knowledge base",
                "references",
                "contexte",
                "extrait",
                "extraits",
                "dokument",
                "dokumente",
                "kontext",
                "quellen",
                "documento",
                "documentos",
                "contexto",
                "fuentes",
                "documenti",
                "contesto",
                "fonti",
                "文档",
                "资料",
                "上下文",
                "文書",
                "資料",
                "документ",
                "документы",
                "контекст",
            ]),
            term_keys: list(&["definition", "meaning"]),
            chunk_keys: list(&[
                "text",
                "content",
                "page_content",
                "passage",
                "body",
                "snippet",
            ]),
        }
    }
}

/// Most terms or passages that may be asked to stay.
const MAX_TOP: usize = 1_000;

impl Config {
    /// What the types cannot say.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        for (path, top) in [
            ("/top_terms", self.top_terms),
            ("/top_chunks", self.top_chunks),
        ] {
            if !(1..=MAX_TOP).contains(&top) {
                issues.push(issue(path, "expected 1 to 1,000"));
            }
        }
        for (path, tags) in [
            ("/term_tags", &self.term_tags),
            ("/chunk_tags", &self.chunk_tags),
        ] {
            for (at, tag) in tags.iter().enumerate() {
                if tag.is_empty()
                    || !tag
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
                {
                    issues.push(issue(
                        format!("{path}/{at}"),
                        "expected letters, digits, `-`, `_`",
                    ));
                }
            }
        }
        issues
    }

    /// The same with all words in the form in which texts are compared.
    pub(crate) fn folded(mut self) -> Self {
        for words in [&mut self.term_headings, &mut self.chunk_headings] {
            for word in words {
                *word = folded(word);
            }
        }
        for tags in [&mut self.term_tags, &mut self.chunk_tags] {
            for tag in tags {
                tag.make_ascii_lowercase();
            }
        }
        self
    }
}
