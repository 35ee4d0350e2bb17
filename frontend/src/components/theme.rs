//! Light, dark, or as the system has it.

use leptos::prelude::*;

use super::icon::Icon;
use crate::browser;

const MEMORY: &str = "signalbox.theme";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    fn recalled() -> Self {
        match browser::recall(MEMORY).as_deref() {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::Auto,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Auto => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::Auto,
        }
    }

    fn put_on(self) {
        match self {
            Self::Auto => {
                browser::forget(MEMORY);
                browser::mark_root("data-theme", None);
            }
            Self::Light | Self::Dark => {
                browser::remember(MEMORY, self.name());
                browser::mark_root("data-theme", Some(self.name()));
            }
        }
    }
}

/// The button that turns the theme.
#[component]
pub fn ThemeButton() -> impl IntoView {
    let theme = RwSignal::new(Theme::recalled());
    let turn = move |_| {
        theme.update(|theme| *theme = theme.next());
        theme.get_untracked().put_on();
    };
    let icon = Signal::derive(move || match theme.get() {
        Theme::Auto => "auto",
        Theme::Light => "sun",
        Theme::Dark => "moon",
    });
    let label = move || format!("Theme: {}. Change to {}", theme.get().name(), theme.get().next().name());
    view! {
        <button class="plain theme" on:click=turn aria-label=label title=label>
            <Icon name=icon />
        </button>
    }
}
