//! `/v1/embeddings`: vectors made from hashes of the text, the same for the same text.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::reply::Reply;

/// Dimensions where none are asked for.
const DIMENSIONS: u64 = 64;

/// Most dimensions that may be asked for.
const MAX_DIMENSIONS: u64 = 4096;

/// Answers an embedding request.
pub(super) fn reply(request: &Value) -> Reply {
    let Some(model) = request["model"].as_str() else {
        return Reply::error(400, Some("model"), "`model` must be a string.");
    };
    let inputs: Vec<String> = match &request["input"] {
        Value::String(text) => vec![text.clone()],
        // A list of texts, or of token numbers, or of lists of these.
        Value::Array(list) if list.iter().all(Value::is_u64) && !list.is_empty() => {
            vec![request["input"].to_string()]
        }
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect(),
        _ => {
            return Reply::error(
                400,
                Some("input"),
                "`input` must be text or a list of texts.",
            );
        }
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Reply::error(400, Some("dimensions"), "`dimensions` must be 1 to 4096.");
    }
    let in_base64 = request["encoding_format"] == "base64";
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, dimensions);
            let embedding = if in_base64 {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                json!(base64(&bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: usize = inputs.iter().map(|text| text.len().div_ceil(4)).sum();
    let body = json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Reply::ok(body, 0)
}

/// A unit vector.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let raw: Vec<f32> = (0..dimensions)
        .map(|dimension| {
            let mut hash = Sha256::new();
            hash.update(dimension.to_le_bytes());
            hash.update(text.as_bytes());
            let hash = hash.finalize();
            f32::from(i16::from_le_bytes([hash[0], hash[1]]))
        })
        .collect();
    let length = raw
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt()
        .max(1.0);
    raw.into_iter().map(|value| value / length).collect()
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let index = bits >> (18 - 6 * digit) & 63;
                out.push(char::from(DIGITS[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn vectors_are_of_length_one_and_tell_texts_apart() {
        let one = vector("one", 64);
        let length: f32 = one.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
        assert_eq!(one, vector("one", 64));
        assert_ne!(one, vector("two", 64));
    }
}
