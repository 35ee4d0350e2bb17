//! `signalbox analyze`.
