//! `[admin]`: the listener for metrics, health, readiness and the console.

use std::net::SocketAddr;

use super::reader::Section;
use super::reader::values::{address, boolean};

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Whether the listener serves the console, which shows keys.
    pub console: Console,
}

/// `admin.console`: a page for people on the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// No console.
    Off,
    /// The default on loopback: a console, since only this machine reaches the listener. A request with a host name that DNS
    /// rebinding can forge is refused.
    OnLoopback,
    /// A console, enabled in the configuration.
    On,
}

/// Reads the section.
pub(super) fn admin(mut section: Section<'_>) -> Admin {
    let listen = section.get("listen", "127.0.0.1:9464", address);
    let loopback = listen.ip().is_loopback();
    let asked = section.has("console");
    let console = match section.get("console", if loopback { "true" } else { "false" }, boolean) {
        false => Console::Off,
        true if asked => Console::On,
        true => Console::OnLoopback,
    };
    if console == Console::On && !loopback {
        section.warn(format!(
            "admin.console: whoever reaches {listen} can see the keys of records, which identify people"
        ));
    }
    section.close();
    Admin { listen, console }
}
