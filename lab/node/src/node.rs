//! The node itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::{BoxFuture, join_all};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, ExitStatus, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::CancellationToken;

use crate::addresses::{AddressPool, UserPool};
use crate::channel::Setup;
use crate::config::{Config, ProbeBinary};
use crate::directory::Directory;
use crate::error::Error;
use crate::instance::Instance;
use crate::network::{Network, PODS, Side, UPLINKS};
use crate::sandbox::{Begun, StartError};
use crate::spawner::Spawner;
use crate::{kubelet, outside, proxy};

/// A node: its network, its pods, and the hosts outside.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) network: Network,
    /// The programs in every pod's `/bin`, sorted.
    programs: Vec<String>,
    addresses: Mutex<AddressPool>,
    users: Mutex<UserPool>,
    pods: Mutex<HashMap<(String, String), Arc<Instance>>>,
    hosts: Mutex<HashMap<String, Arc<Instance>>>,
    pub(crate) directory: Arc<Directory>,
    /// Dropped last: with its thread everything ends that it has started.
    spawner: Spawner,
}

/// Where an instance is attached.
pub(crate) enum Place {
    /// A pod, on the node.
    Pod,
    /// A host outside, with its addresses.
    Outside(Side, Vec<Ipv4Addr>),
}

/// Makes the node's network: the node's namespace, its uplinks and the networks outside.
///
/// # Errors
/// Says what is missing and the remedy.
pub async fn create(config: Config) -> Result<Arc<Node>, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let user_namespaces = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if matches!(user_namespaces.trim(), "" | "0") {
        return Err(Error::Kernel {
            what: "user namespaces",
            remedy: "set `sysctl user.max_user_namespaces=15000`, or take a kernel built with CONFIG_USER_NS",
        });
    }
    proxy::find_nft()?;
    let mut programs = vec![open_probe(&config.probe)?];
    programs.extend(open_busybox());
    let spawner = Spawner::start().map_err(Error::io("start a thread"))?;
    let (network, programs) = Network::create(&spawner, &programs).await?;
    Ok(Arc::new(Node {
        directory: Arc::default(),
        config,
        network,
        programs,
        addresses: Mutex::new(AddressPool::new(PODS)),
        users: Mutex::default(),
        pods: Mutex::default(),
        hosts: Mutex::default(),
        spawner,
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// `/proc/PID/ns/net` of the node's network namespace: what the enforcer enters.
    pub fn netns(&self) -> PathBuf {
        self.network.netns()
    }

    /// The node's interfaces towards the outside.
    pub fn uplinks(&self) -> Vec<String> {
        UPLINKS.map(str::to_owned).to_vec()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.config.node
    }

    /// Kubelet, service proxy and DNS: runs until `shutdown`, then removes everything.
    ///
    /// # Errors
    /// When the Kubernetes API or the machine refuses something without which the node is none.
    pub async fn run(self: Arc<Self>, client: kube::Client, shutdown: CancellationToken) -> Result<(), Error> {
        let stop = shutdown.child_token();
        let done = tokio::select! {
            done = async {
                tokio::try_join!(
                    kubelet::run(Arc::clone(&self), client.clone(), stop.clone()),
                    outside::run(Arc::clone(&self), client.clone(), stop.clone()),
                    proxy::run(Arc::clone(&self), stop.clone()),
                    async {
                        self.directory.run(&client, &stop).await;
                        Ok(())
                    },
                )
            } => done.map(|_| ()),
            () = shutdown.cancelled() => Ok(()),
        };
        stop.cancel();
        self.remove_everything().await;
        done
    }

    /// Ends every process and with them every namespace, link and mount. [`Node::run`] ends with it.
    pub async fn remove_everything(&self) {
        let pods = std::mem::take(&mut *lock(&self.pods)).into_values();
        let hosts = std::mem::take(&mut *lock(&self.hosts)).into_values();
        let all: Vec<Arc<Instance>> = pods.chain(hosts).collect();
        join_all(all.iter().map(|instance| self.close(instance))).await;
        self.network.destroy().await;
    }

    /// Whether a pod finds this program, by the name or path that a container's `command` begins with.
    pub(crate) fn has_program(&self, program: &str) -> bool {
        let name = program
            .strip_prefix("/bin/")
            .or_else(|| program.strip_prefix("/usr/bin/"))
            .or_else(|| program.strip_prefix("/sbin/"))
            .or_else(|| program.strip_prefix("/usr/sbin/"))
            .unwrap_or(program);
        self.programs.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Makes a pod's or host's namespaces and its link. Nothing runs in it yet.
    pub(crate) async fn open(&self, who: &str, hostname: &str, place: Place) -> Result<Arc<Instance>, Error> {
        let (pod, addresses) = match &place {
            Place::Pod => {
                let address = lock(&self.addresses).take(Instant::now())?;
                (Some(address), vec![address])
            }
            Place::Outside(_, addresses) => (None, addresses.clone()),
        };
        let first_user = lock(&self.users).take();
        match self.open_with(who, hostname, place, addresses, first_user).await {
            Ok(instance) => Ok(Arc::new(instance)),
            Err(error) => {
                lock(&self.users).release(first_user);
                if let Some(address) = pod {
                    lock(&self.addresses).release(address, Instant::now());
                }
                Err(error)
            }
        }
    }

    async fn open_with(
        &self,
        who: &str,
        hostname: &str,
        place: Place,
        addresses: Vec<Ipv4Addr>,
        first_user: u32,
    ) -> Result<Instance, Error> {
        let begun = Begun::new(&self.spawner, self.network.holder(), first_user, who).await?;
        let netns = begun.netns();
        let mut hosts = "127.0.0.1\tlocalhost\n".to_owned();
        for address in &addresses {
            hosts.push_str(&format!("{address}\t{hostname}\n"));
        }
        let setup = Setup { hostname: hostname.to_owned(), hosts, resolv_conf: self.resolv_conf(who, &place) };
        let attach = async {
            match &place {
                Place::Pod => self.network.attach_pod(&netns, addresses[0]).await,
                Place::Outside(side, addresses) => self.network.attach_host(&netns, *side, addresses).await,
            }
        };
        let (sandbox, attached) = tokio::join!(begun.finish(setup), attach);
        match (sandbox, attached) {
            (Ok(sandbox), Ok(attached)) => {
                let env = environment(hostname);
                Ok(Instance::new(who.to_owned(), addresses, sandbox, attached, first_user, env))
            }
            (Err(error), Ok(attached)) => {
                // The first error says more than what follows from it.
                let _ = self.network.detach(attached).await;
                Err(error)
            }
            (Ok(sandbox), Err(error)) => {
                sandbox.destroy().await;
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn resolv_conf(&self, who: &str, place: &Place) -> String {
        let server = self.config.dns_address;
        let domain = &self.config.cluster_domain;
        match (place, who.strip_prefix("pod ").and_then(|who| who.split_once('/'))) {
            (Place::Pod, Some((namespace, _))) => {
                format!("nameserver {server}\nsearch {namespace}.svc.{domain} svc.{domain} {domain}\noptions ndots:5\n")
            }
            _ => format!("nameserver {server}\n"),
        }
    }

    /// Ends a pod or host: its link goes first, then its processes.
    pub(crate) async fn close(&self, instance: &Instance) {
        let detached = self.network.detach(instance.attached);
        let (detached, ()) = tokio::join!(detached, instance.sandbox.destroy());
        if let Err(error) = detached {
            tracing::warn!(who = %instance.who, %error, "its link could not be removed");
        }
        lock(&self.users).release(instance.first_user);
        for &address in &instance.addresses {
            if PODS.contains(&address) {
                lock(&self.addresses).release(address, Instant::now());
            }
        }
    }

    /// Makes a pod known to exec and logs.
    pub(crate) fn register_pod(&self, namespace: &str, name: &str, instance: &Arc<Instance>) {
        lock(&self.pods).insert((namespace.to_owned(), name.to_owned()), Arc::clone(instance));
    }

    /// Makes it unknown, unless another of that name has taken its place.
    pub(crate) fn unregister_pod(&self, namespace: &str, name: &str, instance: &Arc<Instance>) {
        let mut pods = lock(&self.pods);
        let key = (namespace.to_owned(), name.to_owned());
        if pods.get(&key).is_some_and(|known| Arc::ptr_eq(known, instance)) {
            pods.remove(&key);
        }
    }

    /// Makes a host known to exec and logs.
    pub(crate) fn register_host(&self, name: &str, instance: &Arc<Instance>) {
        lock(&self.hosts).insert(name.to_owned(), Arc::clone(instance));
    }

    /// Makes it unknown.
    pub(crate) fn unregister_host(&self, name: &str) -> Option<Arc<Instance>> {
        lock(&self.hosts).remove(name)
    }

    fn find(&self, target: &Target) -> Result<(Arc<Instance>, Option<String>), RuntimeError> {
        match target {
            Target::Pod { namespace, name, container } => lock(&self.pods)
                .get(&(namespace.clone(), name.clone()))
                .map(|instance| (Arc::clone(instance), container.clone()))
                .ok_or_else(|| {
                    RuntimeError::NotRunning(format!("pod {namespace}/{name}"), "it has no sandbox yet".to_owned())
                }),
            Target::External(name) => lock(&self.hosts)
                .get(name)
                .map(|instance| (Arc::clone(instance), None))
                .ok_or_else(|| RuntimeError::NotFound(format!("external host {name}"))),
        }
    }
}

/// The environment that every process starts with.
pub(crate) fn environment(hostname: &str) -> Vec<(String, String)> {
    [("PATH", "/bin:/usr/bin"), ("HOME", "/home"), ("HOSTNAME", hostname)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
}

impl PodRuntime for Node {
    fn exec(&self, target: Target, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move {
            let (instance, container) = self.find(&target)?;
            let unknown = || RuntimeError::NotFound(of_container(container.as_deref(), &instance));
            match instance.exec(container.as_deref(), request).await.ok_or_else(unknown)? {
                Ok(session) => Ok(session),
                // As a shell has it: the session exists, and its end says why nothing ran.
                Err(error @ StartError::NotFound(_)) => Ok(failed(error.to_string())),
                Err(StartError::Gone) => Err(RuntimeError::NotRunning(instance.who.clone(), "it has ended".to_owned())),
                Err(StartError::Refused(reason)) => Err(RuntimeError::Io {
                    action: "run a command in",
                    target: instance.who.clone(),
                    source: io::Error::other(reason),
                }),
            }
        })
    }

    fn logs(&self, target: Target, request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move {
            let (instance, container) = self.find(&target)?;
            instance.logs(container.as_deref(), &request).ok_or_else(|| {
                let run = if request.previous { "a previous run" } else { "a log" };
                RuntimeError::NotFound(format!("{run} of {}", of_container(container.as_deref(), &instance)))
            })
        })
    }
}

fn of_container(container: Option<&str>, instance: &Instance) -> String {
    match container {
        Some(container) => format!("container {container} of {}", instance.who),
        None => format!("the container of {}", instance.who),
    }
}

fn failed(reason: String) -> ExecSession {
    let (resize, _) = tokio::sync::mpsc::channel(1);
    ExecSession {
        stdin: None,
        stdout: Box::pin(tokio::io::empty()),
        stderr: Some(Box::pin(tokio::io::empty())),
        resize,
        exit: Box::pin(async move { ExitStatus::Failed(reason) }),
    }
}

fn open_probe(probe: &ProbeBinary) -> Result<File, Error> {
    let (path, file) = match probe {
        ProbeBinary::Path(path) => (path.clone(), File::open(path)),
        ProbeBinary::Bytes(bytes) => (PathBuf::from("(embedded)"), in_memory(bytes)),
    };
    let usable = file.and_then(|mut file| {
        if is_static(&mut file)? {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is no statically linked program for this machine"))
        }
    });
    usable.map_err(|source| Error::Probe { path, source })
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("signalbox-probe", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// A shell and small tools for whoever looks into a pod. Without it pods work, and have the probe alone.
fn open_busybox() -> Option<File> {
    let path = Path::new("/bin/busybox");
    let mut file = File::open(path).ok()?;
    match is_static(&mut file) {
        Ok(true) => Some(file),
        _ => {
            tracing::warn!(
                "{} is not linked statically, so pods have no shell: apt-get install busybox-static",
                path.display()
            );
            None
        }
    }
}

/// Whether an ELF file asks for no interpreter (elf(5), PT_INTERP). Leaves the file at its beginning.
fn is_static(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    Read::by_ref(file).take(16 * 1024).read_to_end(&mut head)?;
    file.rewind()?;
    let word = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let (Some(offset), Some(size), Some(count)) = (long(0x20), word(0x36), word(0x38)) else { return Ok(false) };
    let interpreter = (0..usize::from(count)).any(|index| {
        let at = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(index * usize::from(size));
        word(at) == Some(3)
    });
    Ok(!interpreter)
}
