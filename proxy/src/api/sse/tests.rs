use super::*;
use crate::fuzzing::by_the_book;
use proptest::prelude::*;

/// Feeds the pieces; the events and the rest.
fn frame<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Bytes>) {
    let mut framer = Framer::new(1 << 22);
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(event) = framer.next().unwrap() {
            events.push(event);
        }
    }
    (events, framer.finish())
}

fn data(events: &[Event]) -> Vec<Option<&str>> {
    events
        .iter()
        .map(|e| e.data.as_deref().map(|d| std::str::from_utf8(d).unwrap()))
        .collect()
}

#[test]
fn every_line_ending_and_field_form_is_understood() {
    let cases: &[(&str, &[Option<&str>])] = &[
        ("data: a\n\ndata:b\n\n", &[Some("a"), Some("b")]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", &[Some("a"), Some("b")]),
        ("data: a\r\rdata: b\r\r", &[Some("a"), Some("b")]),
        ("data: a\ndata: b\n\n", &[Some("a\nb")]),
        ("data\ndata\ndata: c\n\n", &[Some("\n\nc")]),
        ("data:  two\n\n", &[Some(" two")]),
        ("data\n\n", &[Some("")]),
        ("data:\n\n", &[Some("")]),
        (": ping\n\nretry: 10\n\ndatum: no\n\n", &[None, None, None]),
        ("\u{feff}data: a\n\n", &[Some("a")]),
        ("data: a\n\n\u{feff}data: b\n\n", &[Some("a"), None]),
        (
            "id: 7\nevent: x\ndata: {\"a\":\":\"}\n\n",
            &[Some("{\"a\":\":\"}")],
        ),
        ("\n\n\ndata: a\n\n", &[None, None, None, Some("a")]),
        ("data: a\r\n\rdata: b\n\n", &[Some("a"), Some("b")]),
    ];
    for (input, expected) in cases {
        let (events, rest) = frame([input.as_bytes()]);
        assert_eq!(data(&events), *expected, "{input:?}");
        assert_eq!(rest, None, "{input:?}");
    }
}

#[test]
fn the_event_field_is_the_last_one() {
    let (events, _) = frame([b"event: a\nevent: error\ndata: x\n\n".as_slice()]);
    assert_eq!(events[0].event.as_deref(), Some(b"error".as_slice()));
}

#[test]
fn an_event_without_its_blank_line_is_the_rest() {
    let (events, rest) = frame([b"data: a\n\ndata: [DO".as_slice(), b"NE]\n"]);
    assert_eq!(data(&events), [Some("a")]);
    let rest = rest.unwrap();
    assert_eq!(rest, "data: [DONE]\n");
    assert_eq!(read(rest, false).data.unwrap(), "[DONE]");
}

#[test]
fn an_event_ended_by_returns_alone_is_not_held_back() {
    let mut framer = Framer::new(1024);
    framer.push(Bytes::from_static(b"data: a\r\r"));
    assert_eq!(framer.next().unwrap().unwrap().data.unwrap(), "a");
}

#[test]
fn events_within_a_chunk_are_slices_of_it() {
    let chunk = Bytes::from_static(b"data: one\n\ndata: two\n\n");
    let mut framer = Framer::new(1024);
    framer.push(chunk.clone());
    let event = framer.next().unwrap().unwrap();
    assert_eq!(event.raw.as_ptr(), chunk.as_ptr());
    assert_eq!(event.data.unwrap().as_ptr(), chunk[6..].as_ptr());
    assert_eq!(
        framer.next().unwrap().unwrap().raw.as_ptr(),
        chunk[11..].as_ptr()
    );
}

#[test]
fn too_long_an_event_is_an_error_for_good() {
    for pieces in [
        vec!["data: 0123456789\n\n"],
        vec!["data: 01234", "56789\n\n"],
    ] {
        let mut framer = Framer::new(16);
        framer.push(Bytes::from_static(b"data: short\n\n"));
        for piece in pieces {
            framer.push(piece.into());
        }
        assert!(framer.next().unwrap().is_some());
        assert_eq!(
            framer.next(),
            Err(EventTooLong {
                max_event_bytes: 16
            })
        );
        framer.push(Bytes::from_static(b"\n\ndata: x\n\n"));
        assert!(framer.next().is_err());
    }
}

#[test]
fn a_long_event_in_single_bytes_and_many_events_in_a_chunk_take_linear_time() {
    let long = format!("data: {}\n\n", "x".repeat(1 << 20));
    let tiny = "data: x\n\n".repeat(10_000);
    let started = std::time::Instant::now();
    let (events, _) = frame(long.as_bytes().chunks(1));
    assert_eq!(events.len(), 1);
    let (events, _) = frame([tiny.as_bytes()]);
    assert_eq!(events.len(), 10_000);
    // Quadratic, the first alone looks at 5 * 10^11 bytes: minutes at the speed of memory.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

/// Streams of lines that matter, and of bytes that do not.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: a".to_vec()),
        Just(b"data:".to_vec()),
        Just(b"data: {\"x\":[1]}".to_vec()),
        Just(b"event: e".to_vec()),
        Just(b": c".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\r".to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events_and_all_bytes(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (whole, whole_rest) = frame([stream.as_slice()]);
        let mut borders: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        borders.extend([0, stream.len()]);
        borders.sort_unstable();
        let pieces: Vec<_> = borders.windows(2).map(|b| &stream[b[0]..b[1]]).collect();
        let (split, split_rest) = frame(pieces);
        prop_assert_eq!(&split, &whole);
        prop_assert_eq!(&split_rest, &whole_rest);
        let (single, single_rest) = frame(stream.chunks(1));
        prop_assert_eq!(&single, &whole);
        prop_assert_eq!(&single_rest, &whole_rest);
        let mut bytes: Vec<u8> = whole.iter().flat_map(|event| event.raw.clone()).collect();
        bytes.extend(whole_rest.unwrap_or_default());
        prop_assert_eq!(bytes, stream);
    }

    #[test]
    fn events_are_those_of_the_standard(mut stream in streams()) {
        // The end of a stream may leave open whether its last event is whole.
        stream.extend(b"x\n\n");
        let (events, rest) = frame([stream.as_slice()]);
        prop_assert_eq!(rest, None);
        let data: Vec<_> = events.iter().filter_map(|e| e.data.clone()).collect();
        prop_assert_eq!(data, by_the_book(&stream));
    }
}
