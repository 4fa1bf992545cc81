//! Bytes that come in pieces, in one buffer that never grows beyond what may be held.

use bytes::Bytes;

use crate::admission::{Full, Held};

/// First size of a buffer. Announced lengths are promises: one byte of a large buffer may cost a huge
/// page.
const FIRST_BYTES: usize = 16 * 1024;

/// A buffer whose whole capacity is counted.
pub(super) struct Gather<'h> {
    bytes: Vec<u8>,
    held: &'h mut Held,
}

impl<'h> Gather<'h> {
    /// Without a buffer yet.
    pub(super) fn new(held: &'h mut Held) -> Self {
        Self {
            bytes: Vec::new(),
            held,
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece. The buffer doubles, as long as it may.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Full> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        let needed = length.saturating_add(piece.len());
        if needed > capacity {
            let doubled = needed.checked_next_power_of_two();
            let wanted = doubled.unwrap_or(needed).max(FIRST_BYTES);
            self.held.grow(wanted - capacity)?;
            self.bytes.reserve_exact(wanted - length);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// All of it.
    pub(super) fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Budget;

    #[test]
    fn pieces_are_joined_and_the_buffer_is_counted() {
        let budget = Budget::of(1 << 20);
        let mut held = budget.holder();
        let mut gather = Gather::new(&mut held);
        let piece = [b'a'; 10_000];
        for _ in 0..10 {
            gather.push(&piece).unwrap();
        }
        assert_eq!(gather.bytes.capacity(), 128 * 1024);
        assert_eq!(gather.finish(), [b'a'; 100_000].as_slice());
    }

    #[test]
    fn what_may_not_be_held_is_not_allocated() {
        let budget = Budget::of(48 * 1024);
        let mut held = budget.holder();
        let mut gather = Gather::new(&mut held);
        gather.push(&[b'a'; 20_000]).unwrap();
        assert_eq!(gather.push(&[b'a'; 20_000]), Err(Full));
        assert_eq!(gather.bytes.capacity(), 32 * 1024);
    }
}
