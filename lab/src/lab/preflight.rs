//! What has to be there before anything is made.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::Error;
use super::options::Options;

/// The oldest kernel whose clsact hook the enforcer supports.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// How long a lab that was just killed may take to let go of its address.
const DYING: Duration = Duration::from_millis(500);

/// Checks rights and kernel.
pub(crate) fn machine() -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    kernel()
}

fn kernel() -> Result<(), Error> {
    let release =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    if version(&release).is_none_or(|version| version < OLDEST_KERNEL) {
        return Err(Error::OldKernel(release));
    }
    for (file, what, option) in [
        ("/proc/self/ns/net", "network namespaces", "CONFIG_NET_NS"),
        ("/proc/self/ns/user", "user namespaces", "CONFIG_USER_NS"),
        ("/proc/self/ns/pid", "process namespaces", "CONFIG_PID_NS"),
    ] {
        if !Path::new(file).exists() {
            return Err(Error::KernelLacks(what, option));
        }
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks that the page's address is free and may be used. The server binds it in earnest, but only once the cluster
/// stands: this is to fail early.
pub(crate) fn listen(options: &Options) -> Result<(), Error> {
    let address = options.listen;
    if !address.ip().is_loopback() && !options.allow_remote {
        return Err(Error::Remote(address));
    }
    let deadline = Instant::now() + DYING;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(source) => return Err(Error::Listen { address, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named_with_the_remedy() {
        let told = Error::OldKernel("5.4.1".to_owned()).to_string();
        assert_eq!(told, "the lab needs Linux 5.10 or newer, this is 5.4.1: boot a newer kernel");
    }

    #[test]
    fn kernel_releases_are_read() {
        for (release, expected) in [
            ("6.18.0-rc1+deb13", Some((6, 18))),
            ("5.10.0-28-amd64", Some((5, 10))),
            ("5.4.1", Some((5, 4))),
            ("6.1-custom", Some((6, 1))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(version("5.4.1").is_some_and(|version| version < OLDEST_KERNEL));
    }

    #[test]
    fn other_machines_are_kept_out_unless_asked_in() {
        let mut options = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
        assert!(matches!(listen(&options), Err(Error::Remote(_))));
        options.allow_remote = true;
        assert!(listen(&options).is_ok());
    }

    #[test]
    fn a_taken_address_names_the_option() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = Options { listen: holder.local_addr().unwrap(), ..Options::default() };
        let message = listen(&options).unwrap_err().to_string();
        assert!(message.starts_with("--listen 127.0.0.1:") && message.contains("port 0"), "{message}");
    }
}
