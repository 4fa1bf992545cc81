//! Compressors that mean harm: whatever they return, the prompt is edited by the rules or not at all.

use super::guest::{Guest, STAGE_RESULT, Stage};
use super::*;
use crate::api::prompt::{Media, ToolResult};
use crate::plugin::{Budget, compress};

/// One edit as it lies in the guest's memory.
type RawEdit = [u32; 8];

/// `history`, because `outdated`.
const WHY: u32 = 2 | 4 << 8;

fn drop_message(message: u32) -> RawEdit {
    [0, message, 0, 0, 0, 0, 0, WHY]
}

fn drop_part(message: u32, part: u32) -> RawEdit {
    [1, message, part, 0, 0, 0, 0, WHY]
}

fn drop_span(message: u32, part: u32, start: u32, end: u32) -> RawEdit {
    [2, message, part, start, end, 0, 0, WHY]
}

/// A compressor that leaves the built-in request alone, and answers the model `z` with `edits`, of
/// which it says that there are `count`.
fn compressor(edits: &[RawEdit], count: u32, prepare: &str) -> Guest {
    const NOTHING: u32 = 0x6000;
    let functions = format!(
        r#"(func (export "sluicegate:plugin/compress@0.1.0#compress") (param $request i32)
             (result i32)
             (if (i32.ne (i32.load8_u (i32.load offset=4 (local.get $request))) (i32.const 122))
               (then (return (i32.const {NOTHING}))))
             {prepare}
             i32.const {STAGE_RESULT})
           (func (export "cabi_post_sluicegate:plugin/compress@0.1.0#compress") (param i32)
             (global.set $heap (i32.const 1048576)))"#
    );
    let first = if prepare.is_empty() {
        STAGE_RESULT + 12
    } else {
        0x20_0000
    };
    let words = [[0, first, count].as_slice(), edits.as_flattened()].concat();
    let result = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Guest {
        stage: Some(Stage {
            world: "compressor",
            functions,
            result,
        }),
        ..Guest::default()
    }
}

fn of(edits: &[RawEdit]) -> Guest {
    compressor(edits, u32::try_from(edits.len()).unwrap(), "")
}

/// A conversation with one of everything: `0` an old question with é at its second byte, `1` a tool's
/// result, `2` an image, `3` the last question.
fn conversation() -> Arc<Prompt> {
    let mut tool = message(Role::Tool, "");
    let Part::Text(content) = text("forty-two degrees").clone() else {
        panic!("made so");
    };
    tool.parts = vec![Part::ToolResult(ToolResult {
        id: "call-1".to_owned(),
        name: "weather".to_owned(),
        content,
    })];
    let mut picture = message(Role::User, "");
    picture.parts = vec![Part::Image(Media::default())];
    let messages = vec![
        message(Role::User, "aéiou and more"),
        tool,
        picture,
        message(Role::User, "and now?"),
    ];
    prompt("z", messages)
}

async fn compressed(
    bench: &Bench,
    guest: &Guest,
    roomy: bool,
) -> Option<crate::plugin::types::Compression> {
    let mut slot = bench.slot(guest);
    slot.kind = SlotKind::Compress;
    if roomy {
        slot.memory_bytes = 64 << 20;
        slot.cpu_time = Duration::from_secs(5);
    }
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let headers = HeaderMap::new();
    let prompt = conversation();
    compress(&plugin, &context(&prompt, &headers), &Budget::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn edits_that_break_a_rule_are_refused_whole() {
    let good = drop_span(0, 0, 4, 6);
    let bench = Bench::new();
    assert!(compressed(&bench, &of(&[good]), false).await.is_some());
    for (count, bad) in (1..).zip([
        ("a message that is not there", drop_message(99)),
        ("the largest number", drop_message(u32::MAX)),
        ("a part that is not there", drop_part(0, 9)),
        ("a span past the end", drop_span(0, 0, 4, 500)),
        ("a span that ends first", drop_span(0, 0, 6, 4)),
        ("a span without a byte", drop_span(0, 0, 4, 4)),
        ("half of a character", drop_span(0, 0, 0, 2)),
        ("an overlap", drop_span(0, 0, 5, 8)),
        ("a tool's result", drop_span(1, 0, 0, 2)),
        ("a span of an image", drop_span(2, 0, 0, 1)),
        ("the last question", drop_span(3, 0, 0, 3)),
        ("all of the last question", drop_message(3)),
    ]) {
        let (what, bad) = bad;
        // The good one beside it is not applied either.
        assert!(
            compressed(&bench, &of(&[good, bad]), false).await.is_none(),
            "{what}"
        );
        assert_eq!(bench.counted("invalid_output"), count, "{what}");
    }
}

#[tokio::test]
async fn edits_of_kinds_that_do_not_exist_are_a_fault() {
    let bench = Bench::new();
    let mut unknown = drop_message(0);
    unknown[7] = 99;
    assert!(compressed(&bench, &of(&[unknown]), false).await.is_none());
    let mut unknown = drop_message(0);
    unknown[0] = 9;
    assert!(compressed(&bench, &of(&[unknown]), false).await.is_none());
    assert_eq!(bench.counted("trap"), 2);
}

#[tokio::test]
async fn more_edits_than_the_slot_allows_are_refused() {
    let bench = Bench::new();
    let many = vec![drop_span(0, 0, 4, 5); 800];
    let mut slot = bench.slot(&of(&many));
    slot.kind = SlotKind::Compress;
    slot.max_edits = 799;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let headers = HeaderMap::new();
    let prompt = conversation();
    let cx = context(&prompt, &headers);
    let done = compress(&plugin, &cx, &Budget::default()).await.unwrap();
    assert!(done.is_none());
    let detail = plugin.status().last_error.unwrap().detail;
    assert!(detail.contains("799"), "{detail}");
}

#[tokio::test]
async fn million_edits_are_never_copied() {
    let bench = Bench::new();
    // All of them zeros, which drop message 0: 32 MB in the guest.
    let grow = "(drop (memory.grow (i32.const 600)))";
    let guest = compressor(&[], 1_000_000, grow);
    assert!(compressed(&bench, &guest, true).await.is_none());
    assert_eq!(bench.counted("output_too_large"), 1);
}
