//! Sets of small numbers: all of them, a short list, or bits.

/// A set of numbers below some bound that its owner knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Every number.
    All,
    /// Ascending.
    Few(Box<[u32]>),
    /// 64 numbers a word.
    Bits(Box<[u64]>),
}

impl Set {
    pub(super) const NONE: fn() -> Self = || Self::Few(Box::new([]));

    /// From ascending numbers.
    pub(super) fn of(list: Vec<u32>, words: usize) -> Self {
        if list.len() <= 2 * words {
            return Self::Few(list.into());
        }
        let mut bits = vec![0_u64; words];
        for number in list {
            bits[word_of(number)] |= bit_of(number);
        }
        Self::Bits(bits.into())
    }

    /// From bits; as a list where that is shorter.
    pub(super) fn of_bits(bits: &[u64]) -> Self {
        let count: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        if count > bits.len() {
            return Self::Bits(bits.into());
        }
        let mut list = Vec::with_capacity(count);
        each_bit(bits, |number| list.push(number));
        Self::Few(list.into())
    }

    pub(super) fn is_none(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::All | Self::Bits(_) => false,
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Few(list) => list.binary_search(&number).is_ok(),
            Self::Bits(bits) => bits.get(word_of(number)).is_some_and(|word| word & bit_of(number) != 0),
        }
    }

    /// The numbers of one word, as bits.
    pub(super) fn word(&self, word: usize) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::Bits(bits) => bits.get(word).copied().unwrap_or(0),
            Self::Few(list) => {
                let first = list.partition_point(|number| word_of(*number) < word);
                let here = list[first..].iter().take_while(|number| word_of(**number) == word);
                here.fold(0, |bits, number| bits | bit_of(*number))
            }
        }
    }

    /// Adds its numbers to bits that start at a word.
    pub(super) fn add_to(&self, bits: &mut [u64], start: usize) {
        match self {
            Self::All => bits.fill(u64::MAX),
            Self::Bits(own) => {
                for (to, from) in bits.iter_mut().zip(own.iter().skip(start)) {
                    *to |= from;
                }
            }
            Self::Few(list) => {
                let first = if start == 0 { 0 } else { list.partition_point(|number| word_of(*number) < start) };
                for number in &list[first..] {
                    match bits.get_mut(word_of(*number) - start) {
                        Some(word) => *word |= bit_of(*number),
                        None => break,
                    }
                }
            }
        }
    }

    /// The same with one word replaced.
    pub(super) fn with_word(&self, word: usize, bits: u64, words: usize) -> Self {
        let mut all = vec![0; words];
        self.add_to(&mut all, 0);
        all[word] = bits;
        Self::of_bits(&all)
    }

    /// Its numbers; of all numbers those below a bound.
    pub(super) fn each(&self, bound: u32, mut visit: impl FnMut(u32)) {
        match self {
            Self::All => (0..bound).for_each(visit),
            Self::Few(list) => list.iter().copied().for_each(visit),
            Self::Bits(bits) => each_bit(bits, &mut visit),
        }
    }
}

fn each_bit(bits: &[u64], mut visit: impl FnMut(u32)) {
    for (at, word) in bits.iter().enumerate() {
        let mut left = *word;
        while left != 0 {
            visit(u32::try_from(at).expect("sets are of 32-bit numbers") * 64 + left.trailing_zeros());
            left &= left - 1;
        }
    }
}

pub(super) fn word_of(number: u32) -> usize {
    number as usize / 64
}

pub(super) fn bit_of(number: u32) -> u64 {
    1 << (number % 64)
}
