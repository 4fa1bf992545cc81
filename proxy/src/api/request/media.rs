//! Parts that are not text: what they are, and roughly what they cost.
//!
//! Payloads stay where they are: a data URL's size is counted from its base64 digits.

use std::borrow::Cow;

use crate::api::json::{self, Kind, Member};
use crate::api::prompt::{Media, Part};
use crate::api::text::cut;

/// Tokens of a picture: of low detail, and of about a megapixel (OpenAI's vision pricing).
const LOW_DETAIL_TOKENS: u32 = 85;
const IMAGE_TOKENS: u32 = 765;
/// Tokens of sound of unknown length, and bytes of a recording that make one token.
const AUDIO_TOKENS: u32 = 300;
const AUDIO_BYTES_PER_TOKEN: u32 = 2_400;
/// Tokens of a video of unknown length, and bytes that make one token.
const VIDEO_TOKENS: u32 = 4_000;
const VIDEO_BYTES_PER_TOKEN: u32 = 500;
/// Tokens of a document of unknown size, and bytes that make one token.
const FILE_TOKENS: u32 = 1_000;
const FILE_BYTES_PER_TOKEN: u32 = 40;
/// Longest media type and name that are kept, in bytes.
const MAX_MEDIA_TYPE_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 256;

/// Reads a part by its type, with an estimate of its tokens; none when it is no known medium.
pub(super) fn read(kind: Option<&str>, members: &[Member<'_>]) -> Option<(Part, u32)> {
    let by_size = |media: &Media, unknown: u32, bytes_per_token: u32| {
        media
            .size
            .map_or(unknown, |size| size.div_ceil(bytes_per_token))
    };
    let known = match kind {
        Some(kind) => kind,
        // Without a type, servers go by the field that is there.
        None => ["image_url", "input_audio", "audio_url", "video_url", "file"]
            .into_iter()
            .find(|name| json::last(members, name).is_some())?,
    };
    match known {
        "image_url" | "input_image" | "image" => {
            let (media, detail) = by_url(members, &["image_url", "image", "file_id"]);
            let low = detail.as_deref() == Some("low");
            Some((
                Part::Image(media),
                if low { LOW_DETAIL_TOKENS } else { IMAGE_TOKENS },
            ))
        }
        "input_audio" => {
            let media = recording(members);
            let tokens = by_size(&media, AUDIO_TOKENS, AUDIO_BYTES_PER_TOKEN);
            Some((Part::Audio(media), tokens))
        }
        "audio_url" | "audio" => {
            let (media, _) = by_url(members, &["audio_url", "audio"]);
            let tokens = by_size(&media, AUDIO_TOKENS, AUDIO_BYTES_PER_TOKEN);
            Some((Part::Audio(media), tokens))
        }
        "video_url" | "input_video" | "video" => {
            let (media, _) = by_url(members, &["video_url", "video"]);
            let tokens = by_size(&media, VIDEO_TOKENS, VIDEO_BYTES_PER_TOKEN);
            Some((Part::Video(media), tokens))
        }
        "file" | "input_file" | "file_url" => {
            let media = document(members);
            let tokens = by_size(&media, FILE_TOKENS, FILE_BYTES_PER_TOKEN);
            Some((Part::File(media), tokens))
        }
        _ => None,
    }
}

/// A medium given as `NAME: {url, detail}` or `NAME: "url"`, and its detail.
fn by_url<'a>(members: &[Member<'a>], names: &[&str]) -> (Media, Option<Cow<'a, str>>) {
    let Some(value) = names.iter().find_map(|name| json::last(members, name)) else {
        return (Media::default(), None);
    };
    let object = json::members(value).unwrap_or_default();
    let url = if object.is_empty() {
        Some(value)
    } else {
        json::last(&object, "url")
    };
    let detail = json::last(&object, "detail").or_else(|| json::last(members, "detail"));
    (
        url.map(from_url).unwrap_or_default(),
        detail.and_then(json::text),
    )
}

/// `input_audio: {data, format}`
fn recording(members: &[Member<'_>]) -> Media {
    let object = json::last(members, "input_audio").and_then(|value| json::members(value).ok());
    let object = object.unwrap_or_default();
    let data = json::last(&object, "data").filter(|data| Kind::of(data) == Kind::Text);
    let media = match data {
        Some(data) if json::inside(data).starts_with("data:") => from_url(data),
        Some(data) => Media {
            size: Some(base64_size(json::inside(data))),
            ..Media::default()
        },
        None => Media::default(),
    };
    let format = json::last(&object, "format").and_then(json::text);
    Media {
        media_type: media
            .media_type
            .or_else(|| format.and_then(|f| declared(&format!("audio/{f}")))),
        ..media
    }
}

/// `file: {file_data, filename, file_id}`, or these fields beside the type.
fn document(members: &[Member<'_>]) -> Media {
    let object = json::last(members, "file").and_then(|value| json::members(value).ok());
    let fields = object.as_deref().unwrap_or(members);
    let data = ["file_data", "file_url", "url"]
        .iter()
        .find_map(|name| json::last(fields, name))
        .filter(|data| Kind::of(data) == Kind::Text);
    let media = match data {
        Some(data) if !json::inside(data).contains(':') => Media {
            size: Some(base64_size(json::inside(data))),
            ..Media::default()
        },
        Some(data) => from_url(data),
        None => Media::default(),
    };
    let name = json::last(fields, "filename").and_then(json::text);
    Media {
        name: name
            .map(|name| cut(&name, MAX_NAME_BYTES).to_owned())
            .or(media.name),
        ..media
    }
}

/// What a URL's literal says: type and size of a data URL, host of another.
fn from_url(literal: &str) -> Media {
    if Kind::of(literal) != Kind::Text {
        return Media::default();
    }
    let raw = json::inside(literal);
    // Some clients escape the slashes of a data URL; only its head is decoded then.
    if let Some((head, payload)) = raw.split_once(',')
        && let Some(head) = json::decode(&format!("\"{head}\"")).strip_prefix("data:")
    {
        let is_base64 = head
            .split(';')
            .skip(1)
            .any(|word| word.eq_ignore_ascii_case("base64"));
        let size = if is_base64 {
            base64_size(payload)
        } else {
            u32::try_from(payload.len()).unwrap_or(u32::MAX)
        };
        return Media {
            media_type: head.split(';').next().and_then(declared),
            name: None,
            size: Some(size),
        };
    }
    let url = json::decode(literal);
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(|host| cut(host, MAX_NAME_BYTES).to_owned()));
    Media {
        name: host,
        ..Media::default()
    }
}

/// A media type as declared, in lower case.
fn declared(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty() && name.len() <= MAX_MEDIA_TYPE_BYTES).then_some(name)
}

/// Bytes that base64 digits stand for, padding, escapes and line breaks apart.
fn base64_size(digits: &str) -> u32 {
    let bytes = digits.as_bytes();
    let escapes = memchr::memchr_iter(b'\\', bytes).count();
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = bytes.len().saturating_sub(escapes + padding);
    u32::try_from(digits * 3 / 4).unwrap_or(u32::MAX)
}
