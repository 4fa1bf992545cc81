//! Other spellings of a value: order, white space, escapes and number forms.

use super::super::json::{self, Content, Entry, Value};
use super::plain;

/// The value in another spelling.
pub(super) fn respell(value: &Value<'_>, draws: &mut Draws) -> String {
    match &value.content {
        Content::Word => value.text.to_owned(),
        Content::Number => respelt_number(value.text, draws),
        Content::Text(units) => respelt_text(units, draws),
        Content::List(entries) => {
            let items = entries
                .list
                .iter()
                .map(|entry| respell(&entry.value, draws));
            let items: Vec<String> = items.collect();
            bracketed("[", &items, "]", draws)
        }
        Content::Object(entries) => {
            let mut order: Vec<&Entry<'_>> = entries.list.iter().collect();
            // Neighbours change places, but not two of one name: their order says something.
            for _ in 0..order.len() * 2 {
                let at = draws.below(order.len().max(2) - 1);
                if order.len() > 1 && order[at].key != order[at + 1].key {
                    order.swap(at, at + 1);
                }
            }
            let members = order.into_iter().map(|entry| {
                let key = respelt_text(&entry.key, draws);
                let colon = [":", " :", ": ", "\n:\t"][draws.below(4)];
                format!("{key}{colon}{}", respell(&entry.value, draws))
            });
            let members: Vec<String> = members.collect();
            bracketed("{", &members, "}", draws)
        }
    }
}

fn bracketed(open: &str, items: &[String], close: &str, draws: &mut Draws) -> String {
    let space = ["", " ", "\n", "\r\t"][draws.below(4)];
    format!(
        "{open}{space}{}{space}{close}",
        items.join(&format!("{space},{space}"))
    )
}

fn respelt_text(units: &[u16], draws: &mut Draws) -> String {
    let mut out = String::from("\"");
    for read in char::decode_utf16(units.iter().copied()) {
        match read {
            Ok(character) if draws.below(3) > 0 => {
                out.push_str(&json::escaped(&character.to_string()))
            }
            Ok('/') => out.push_str("\\/"),
            Ok(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    match draws.below(2) {
                        0 => out.push_str(&format!("\\u{unit:04x}")),
                        _ => out.push_str(&format!("\\u{unit:04X}")),
                    }
                }
            }
            Err(half) => out.push_str(&format!("\\u{:04x}", half.unpaired_surrogate())),
        }
    }
    out.push('"');
    out
}

fn respelt_number(number: &str, draws: &mut Draws) -> String {
    if plain(number).as_deref() == Some("0") {
        return ["0", "-0", "0.00", "-0e5", "0E-7"][draws.below(5)].to_owned();
    }
    // The form of a number with a power beyond all reason is its spelling.
    let power = number
        .split_once(['e', 'E'])
        .map_or("0", |(_, power)| power);
    if !power
        .parse::<i64>()
        .is_ok_and(|power| power.unsigned_abs() < 1 << 40)
    {
        return number.to_owned();
    }
    match (
        number.contains(['e', 'E']),
        number.contains('.'),
        draws.below(4),
    ) {
        (_, _, 0) => number.to_owned(),
        (true, _, 1) => number.replace('e', "E"),
        (true, _, _) => {
            let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
            let (sign, power) = match power.strip_prefix('-') {
                Some(power) => ("-", power),
                None => ("+", power.trim_start_matches('+')),
            };
            let point = if mantissa.contains('.') { "" } else { "." };
            format!("{mantissa}{point}0e{sign}00{power}")
        }
        (false, true, 1) => format!("{number}00"),
        (false, true, 2) => {
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            let digits = format!("{whole}{fraction}");
            let (sign, digits) = match digits.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", digits.as_str()),
            };
            format!(
                "{sign}{}e-{}",
                digits.trim_start_matches('0'),
                fraction.len()
            )
        }
        (false, true, _) => format!("{number}0E+0"),
        (false, false, 1) => format!("{number}.0"),
        (false, false, 2) => format!("{number}000e-3"),
        (false, false, _) => format!("{number}e0"),
    }
}

/// Numbers that look drawn and come from the input: xorshift64 (Marsaglia, 2003).
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from((self.0 >> 11) % end).unwrap_or_default()
    }
}
