// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Structures as bytes: the one place where that is done.
#![allow(unsafe_code)]

use core::{mem::MaybeUninit, ptr, slice};

use crate::{
    address::Address,
    flow::{CountKey, Counts, Event, Flow, FlowKey, FragmentKey, Limit, LimitKey, VerdictKey},
    policy::{
        AddressValue, AuditValue, BlockKey, BlockValue, Judgement, NodePortKey, PodValue, PolicyKey, RangeKey,
        TranslatedKey, Unjudged,
    },
};

/// A structure whose every byte is part of a field, and for which every pattern of bytes is a value.
///
/// # Safety
///
/// Implement it for `repr(C)` structures without padding, of integers and arrays of integers only.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($name:ty: $size:literal),+ $(,)?) => {
        $(
            // The sum of the fields: a structure with padding does not compile.
            const _: () = assert!(size_of::<$name>() == $size);
            // SAFETY: integers only, and no padding, as the assertion above checks.
            unsafe impl Plain for $name {}
        )+
    };
}

plain! {
    u32: 4,
    u64: 8,
    Address: 16,
    AddressValue: 16,
    BlockKey: 20,
    BlockValue: 8,
    PodValue: 96,
    PolicyKey: 12,
    RangeKey: 16,
    Judgement: 4,
    NodePortKey: 4,
    TranslatedKey: 20,
    FlowKey: 40,
    Flow: 28,
    LimitKey: 40,
    CountKey: 44,
    Counts: 16,
    Event: 80,
    Unjudged: 16,
    VerdictKey: 12,
    AuditValue: 16,
}

#[cfg(not(feature = "other-layout"))]
plain! {
    FragmentKey: 40,
    Limit: 16,
}

#[cfg(feature = "other-layout")]
plain! {
    FragmentKey: 48,
    Limit: 24,
}

/// The bytes of some structures in a row.
pub fn as_bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` has no padding, so every byte is initialised; the length is that of the slice.
    unsafe { slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The same, to be written.
pub fn as_bytes_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are a `T`.
    unsafe { slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// The structure that these bytes hold; `None` where they are too few.
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the source has at least as many bytes, the target is as large as `T`, and any bytes are a `T`.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), size_of::<T>());
        Some(value.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_there_and_back() {
        let key = PolicyKey::new(7, crate::policy::Side::Egress, Some(9), Some(6), Some(443));
        assert_eq!(from_bytes::<PolicyKey>(as_bytes(&[key])), Some(key));
        assert_eq!(from_bytes::<PolicyKey>(&as_bytes(&[key])[1..]), None);
    }
}
