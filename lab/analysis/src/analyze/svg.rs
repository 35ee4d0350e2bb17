//! A picture.
use super::Sink;
use crate::error::Error;
use crate::streams::Streams;
use crate::unknown::Unknowns;
use signalbox_policy::analyze::Link;

#[derive(Default)]
pub(super) struct Svg;
impl Sink for Svg {
    fn links(&mut self, _: &[Link], _: &mut Streams<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn end(&mut self, _: &Unknowns, _: &mut Streams<'_>) -> Result<(), Error> {
        Ok(())
    }
}
