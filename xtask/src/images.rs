//! OCI images, without a registry and without a container engine: one static binary each, from scratch.
//!
//! The same sources give the same bytes: files have no times and one owner, and stand in one order. An archive is an OCI layout, which
//! `ctr images import` reads, and has the list that `docker load` asks for, too.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
    Sha256Digest,
};
use sha2::{Digest, Sha256};

use crate::step::{artifacts, command, root, run, say, step};
use crate::{artifact, packages};

/// Whom a container is that needs no rights: nobody in particular, and the same in all our images.
const NOBODY: &str = "65532:65532";

/// What containerd and Docker put before a name that has no registry's; an archive has to name an image in full.
const UNNAMED_REGISTRY: &str = "docker.io";

/// An image that is made of one binary.
struct Image {
    /// After `signalbox/`.
    name: &'static str,
    /// The cargo package and its binary; absent where [`artifact`] has made the binary already.
    package: Option<&'static str>,
    /// What cargo is told of the package's features where the image is to be small.
    features: &'static [&'static str],
    /// The binary.
    binary: &'static str,
    /// Where it lies in the image.
    at: &'static str,
    user: &'static str,
    arguments: &'static [&'static str],
    about: &'static str,
}

const IMAGES: &[Image] = &[
    Image {
        name: "server",
        package: Some("signalbox-lab"),
        // Neither a lab nor an enforcer.
        features: &["--no-default-features"],
        binary: "signalbox",
        at: "signalbox",
        user: NOBODY,
        arguments: &["serve"],
        about: "who can talk to whom in a Kubernetes cluster: the server and its page",
    },
    Image {
        name: "enforcer",
        package: Some("signalbox-enforcer"),
        features: &[],
        binary: "signalbox-enforcer",
        at: "signalbox-enforcer",
        user: "0:0",
        arguments: &[],
        about: "enforces a cluster's network policies on one node",
    },
    Image {
        name: "probe",
        package: None,
        features: &[],
        binary: "signalbox-probe",
        // Where the server looks for it in any pod.
        at: "bin/signalbox-probe",
        user: NOBODY,
        arguments: &["serve", "--name", "probe"],
        about: "tries connections from inside a pod",
    },
];

/// For clusters that have no DNS, that of the tests among them. No part of a release.
const DNS: Image = Image {
    name: "dns",
    package: Some("signalbox-lab-node"),
    features: &[],
    binary: "signalbox-lab-dns",
    at: "signalbox-lab-dns",
    // Port 53.
    user: "0:0",
    arguments: &[],
    about: "the lab's DNS, for a test's cluster",
};

/// How an image's binary is made.
#[derive(Clone, Copy)]
pub enum Make {
    /// Small: all crates anew, each as a part of the whole program (the profile `image`). Takes minutes.
    Small,
    /// Of the crates of the release build.
    Soon,
}

/// Writes the images of a release into a folder.
pub fn write(folder: &Path) -> Result<()> {
    build(folder, IMAGES.iter(), Make::Small)
}

/// The same into `target/images`, and what the cluster of the tests needs besides.
pub fn for_tests(make: Make) -> Result<()> {
    build(&root().join("target/images"), IMAGES.iter().chain([&DNS]), make)
}

fn build<'a>(folder: &Path, images: impl Iterator<Item = &'a Image>, make: Make) -> Result<()> {
    packages::ensure(packages::BUILD)?;
    artifact::binary()?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for image in images {
        let binary = match image.package {
            Some(package) => match make {
                Make::Small => small(package, image)?,
                Make::Soon => linked_anew(package, image.binary)?,
            },
            None => artifacts().join(image.binary),
        };
        let archive = folder.join(format!("signalbox-{}.tar", image.name));
        let (unpacked, packed) = pack(image, &binary, &archive)?;
        say(&format!(
            "{}: signalbox/{}:{VERSION}, {:.1} MB, packed {:.1} MB",
            archive.display(),
            image.name,
            unpacked as f64 / 1e6,
            packed as f64 / 1e6
        ));
    }
    Ok(())
}

/// The version of all crates of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes a binary from the start with the profile `image`, the C library inside.
fn small(package: &str, image: &Image) -> Result<PathBuf> {
    let built = root().join("target/image").join(image.binary);
    link_statically("image", package, image.binary, image.features)?;
    is_static(&built)?;
    Ok(built)
}

fn link_statically(profile: &str, package: &str, binary: &str, features: &[&str]) -> Result<()> {
    step(&format!("link {binary} statically"), || {
        run(command("cargo")
            .args(["rustc", "--locked", "--profile", profile, "-p", package, "--bin", binary])
            .args(features)
            .args(["--", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"]))
    })
}

/// Links a binary anew, with the C library inside. All crates are those of the release build: only the last step is done twice.
fn linked_anew(package: &str, binary: &str) -> Result<PathBuf> {
    let (built, linked) = (root().join("target/release").join(binary), artifacts().join(format!("{binary}.static")));
    // Cargo gives both the same name. The one that links dynamically is what everything else runs: it keeps a second name meanwhile.
    let dynamic = artifacts().join(format!("{binary}.dynamic"));
    forget(&dynamic)?;
    if built.exists() {
        fs::hard_link(&built, &dynamic).with_context(|| format!("cannot keep {}", built.display()))?;
    }
    let result = link_statically("release", package, binary, &[]).and_then(|()| {
        forget(&linked)?;
        fs::hard_link(&built, &linked).context("cannot take the static binary")
    });
    if dynamic.exists() {
        fs::rename(&dynamic, &built).with_context(|| format!("cannot put {} back", built.display()))?;
    }
    // Where both are one file that leaves both names.
    forget(&dynamic)?;
    result?;
    is_static(&linked)?;
    Ok(linked)
}

fn forget(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Fails where a binary asks for a loader: in an image from scratch there is none.
fn is_static(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary)?;
    let asks = bytes.windows(15).any(|window| window == b"/ld-linux-x86-6");
    ensure!(!asks, "{} is not linked statically", binary.display());
    Ok(())
}

/// Writes the archive; the sizes of the layer, unpacked and packed, in bytes.
fn pack(image: &Image, binary: &Path, archive: &Path) -> Result<(u64, u64)> {
    let layer = layer(binary, image.at)?;
    let unpacked = layer.len() as u64;
    let diff = sha256(&layer);
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&layer)?;
    let mut blobs = Blobs::default();
    let layer = blobs.keep(MediaType::ImageLayerGzip, packer.finish()?)?;
    let packed = layer.size();

    let mut config = ConfigBuilder::default()
        .entrypoint([format!("/{}", image.at)])
        .env(["PATH=/bin:/".to_owned()])
        .user(image.user)
        .labels(HashMap::from([
            ("org.opencontainers.image.title".to_owned(), format!("signalbox/{}", image.name)),
            ("org.opencontainers.image.description".to_owned(), image.about.to_owned()),
            ("org.opencontainers.image.version".to_owned(), VERSION.to_owned()),
            ("org.opencontainers.image.licenses".to_owned(), env!("CARGO_PKG_LICENSE").to_owned()),
            ("org.opencontainers.image.source".to_owned(), env!("CARGO_PKG_REPOSITORY").to_owned()),
        ]))
        .working_dir("/");
    if !image.arguments.is_empty() {
        config = config.cmd(image.arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    }
    let config = ImageConfigurationBuilder::default()
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(config.build()?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids([format!("sha256:{diff}")]).build()?)
        .build()?;
    let config = blobs.keep(MediaType::ImageConfig, sorted(&config)?)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.clone())
        .layers([layer.clone()])
        .build()?;
    let mut manifest = blobs.keep(MediaType::ImageManifest, sorted(&manifest)?)?;
    let name = format!("signalbox/{}:{VERSION}", image.name);
    manifest.set_platform(Some(PlatformBuilder::default().architecture(Arch::Amd64).os(Os::Linux).build()?));
    manifest.set_annotations(Some(HashMap::from([
        ("io.containerd.image.name".to_owned(), format!("{UNNAMED_REGISTRY}/{name}")),
        ("org.opencontainers.image.ref.name".to_owned(), VERSION.to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    let for_docker = serde_json::json!([
        {"Config": path_of(&config), "RepoTags": [name], "Layers": [path_of(&layer)]}
    ]);
    let mut files = BTreeMap::from([
        ("index.json".to_owned(), sorted(&index)?),
        ("manifest.json".to_owned(), sorted(&for_docker)?),
        ("oci-layout".to_owned(), sorted(&layout)?),
    ]);
    files.extend(blobs.files);
    let half = archive.with_extension("new");
    fs::write(&half, tar(&files, 0o644)?).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, archive).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok((unpacked, packed))
}

/// What the archive's descriptors name by their digest.
#[derive(Default)]
struct Blobs {
    files: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    fn keep(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<Descriptor> {
        let digest: Sha256Digest = sha256(&bytes).parse()?;
        let descriptor =
            DescriptorBuilder::default().media_type(kind).digest(digest).size(bytes.len() as u64).build()?;
        self.files.insert(path_of(&descriptor), bytes);
        Ok(descriptor)
    }
}

fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest().digest())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON whose keys are in order: the crates' types hold hash maps.
fn sorted(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    // A `Value` keeps its keys sorted.
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}

/// The one layer: folders, and the binary.
fn layer(binary: &Path, at: &str) -> Result<Vec<u8>> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    tar(&BTreeMap::from([(at.to_owned(), bytes)]), 0o755)
}

/// An archive whose bytes depend on names and contents alone.
fn tar(files: &BTreeMap<String, Vec<u8>>, mode: u32) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = std::collections::BTreeSet::new();
    for (path, bytes) in files {
        let parents = Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        let mut parents: Vec<_> = parents.collect();
        parents.reverse();
        for parent in parents {
            if folders.insert(parent.to_owned()) {
                archive.append_data(&mut header(tar::EntryType::Directory, 0, 0o755), parent, std::io::empty())?;
            }
        }
        archive.append_data(&mut header(tar::EntryType::Regular, bytes.len() as u64, mode), path, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

    use super::*;

    fn image(folder: &Path, name: &str) -> Vec<u8> {
        let archive = folder.join(name);
        pack(&IMAGES[2], &folder.join("binary"), &archive).unwrap();
        fs::read(archive).unwrap()
    }

    #[test]
    fn the_same_binary_gives_the_same_bytes() {
        let folder = std::env::temp_dir().join(format!("signalbox-images-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("binary"), b"no loader here").unwrap();
        let one = image(&folder, "one");
        // Another time of change, and another order in the maps.
        fs::write(folder.join("binary"), b"no loader here").unwrap();
        let two = image(&folder, "two");
        fs::write(folder.join("binary"), b"other").unwrap();
        let other = image(&folder, "other");
        fs::remove_dir_all(&folder).unwrap();
        assert!(one == two, "two runs differ");
        assert!(one != other);
    }

    #[test]
    fn an_archive_holds_what_its_descriptors_name() {
        let folder = std::env::temp_dir().join(format!("signalbox-layout-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("binary"), b"no loader here").unwrap();
        let bytes = image(&folder, "one");
        fs::remove_dir_all(&folder).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(path, content);
        }
        for (path, content) in
            files.iter().filter(|(path, content)| path.starts_with("blobs/sha256/") && !content.is_empty())
        {
            assert_eq!(*path, format!("blobs/sha256/{}", sha256(content)));
        }
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let digest = index.pointer("/manifests/0/digest").and_then(|digest| digest.as_str()).unwrap();
        let manifest = &files[&digest.replace("sha256:", "blobs/sha256/")];
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let config = manifest.pointer("/config/digest").and_then(|digest| digest.as_str()).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&files[&config.replace("sha256:", "blobs/sha256/")]).unwrap();
        assert_eq!(config.pointer("/config/User").unwrap(), NOBODY, "the probe is not root");
        assert_eq!(config.pointer("/config/Entrypoint/0").unwrap(), "/bin/signalbox-probe");
    }
}
