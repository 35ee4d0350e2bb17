//! The kernel programs, as they were built.

/// Aligns the object: its parser reads whole words.
#[cfg(signalbox_object)]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

#[cfg(signalbox_object)]
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/enforcer.bpf.o")));

/// The object file; `None` where the crate was built without it.
pub fn object() -> Option<&'static [u8]> {
    #[cfg(signalbox_object)]
    {
        Some(&OBJECT.0)
    }
    #[cfg(not(signalbox_object))]
    {
        None
    }
}
