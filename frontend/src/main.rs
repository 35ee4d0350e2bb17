//! Entry point of the page.

fn main() {
    signalbox_frontend::run();
}
