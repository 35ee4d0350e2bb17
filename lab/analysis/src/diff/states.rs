//! Which two states are compared.

use std::path::Path;

use serde_json::Value;

use super::Args;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::streams::Streams;

/// Both states.
pub(super) struct States {
    pub before: Input,
    pub after: Input,
}

/// What tells objects apart: kind with group, namespace and name.
type Key = (String, String, Option<String>, String);

impl States {
    pub(super) fn load(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Self, Error> {
        let is_edit = !args.apply.is_empty() || !args.delete.is_empty();
        let has_cluster = args.cluster.kubeconfig.is_some();
        let everything = args.paths.iter().chain(&args.apply);
        if everything.filter(|path| **path == Path::new("-")).count() > 1 {
            return Err(Error::StandardInputTwice);
        }
        let wanted = match (is_edit, has_cluster) {
            (true, true) => 0,
            (true, false) | (false, true) => 1,
            (false, false) => 2,
        };
        if args.paths.len() != wanted {
            return Err(Error::Usage(wrong_states(args)));
        }
        let of_path = |path: &Path| input::Args { paths: vec![path.to_owned()], ..input::Args::default() };
        let before = if has_cluster {
            input::Args { cluster: args.cluster.clone(), ..input::Args::default() }
        } else {
            of_path(&args.paths[0])
        };
        let before = Input::load(&before, live, streams)?;
        before.complain(streams);
        let after = match args.paths.last() {
            Some(path) if !is_edit => {
                let after = Input::load(&of_path(path), live, streams)?;
                after.complain(streams);
                after
            }
            Some(_) | None => edited(&before, args, streams)?,
        };
        Ok(Self { before, after })
    }
}

/// Which state is missing, or which is one too many.
fn wrong_states(args: &Args) -> String {
    let is_edit = !args.apply.is_empty() || !args.delete.is_empty();
    let cluster = args.cluster.kubeconfig.as_ref().map(|_| "the cluster".to_owned());
    let mut states = cluster.into_iter().chain(args.paths.iter().map(|path| path.display().to_string()));
    match (states.next(), states.next()) {
        (None, _) => {
            "no state is named; name two, OLD and NEW, or one and an edit with --apply FILE or --delete OBJECT"
                .to_owned()
        }
        (Some(old), None) => format!(
            "{old} is the old state, and there is no new one to hold against it; name it as the second PATH, or say by \
             --apply FILE or --delete OBJECT how it differs from {old}"
        ),
        (Some(old), Some(more)) if is_edit => {
            format!(
                "{old} is the old state, and --apply and --delete make the new one of it; leave {more} out, or the edit"
            )
        }
        (Some(old), Some(new)) => {
            let more: Vec<String> = states.collect();
            format!("{old} is the old state and {new} the new one; leave {} out", more.join(" and "))
        }
    }
}

/// The state after the edit.
fn edited(before: &Input, args: &Args, streams: &mut Streams<'_>) -> Result<Input, Error> {
    let mut after = before.clone();
    for object in &args.delete {
        delete(&mut after, object)?;
    }
    for path in &args.apply {
        let edit = Input::read(path, streams)?;
        edit.complain(streams);
        for (object, origin) in edit.objects.into_iter().zip(edit.origins) {
            let own = key(&object);
            after.retain(|other| own.is_none() || key(other) != own);
            after.objects.push(object);
            after.origins.push(origin);
        }
        after.broken.extend(edit.broken);
    }
    Ok(after)
}

fn key(object: &Value) -> Option<Key> {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str);
    let group = text("/apiVersion")?.rsplit_once('/').map_or("", |(group, _)| group);
    let namespace = text("/metadata/namespace").map(str::to_owned);
    let namespace = namespace.or_else(|| is_namespaced(text("/kind")?).then(|| "default".to_owned()));
    Some((group.to_owned(), text("/kind")?.to_owned(), namespace, text("/metadata/name")?.to_owned()))
}

/// Kinds that bear on policies and have no namespace.
fn is_namespaced(kind: &str) -> bool {
    const WITHOUT: [&str; 7] = [
        "Namespace",
        "Node",
        "ClusterNetworkPolicy",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "GlobalNetworkPolicy",
        "CiliumClusterwideNetworkPolicy",
    ];
    !WITHOUT.contains(&kind)
}

fn delete(state: &mut Input, text: &str) -> Result<(), Error> {
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, namespace, name) = match parts[..] {
        [kind, name] => (kind, None, name),
        [kind, namespace, name] => (kind, Some(namespace), name),
        _ => {
            let how =
                "write KIND/NAMESPACE/NAME, as in NetworkPolicy/shop/deny, or KIND/NAME for kinds without namespace";
            return Err(Error::Usage(format!("{text:?} names no object; {how}")));
        }
    };
    let is_it = |object: &Value| {
        let Some((_, own_kind, own_namespace, own_name)) = key(object) else { return false };
        let default = own_namespace.as_ref().map(|_| "default");
        is_kind(kind, &own_kind) && own_name == name && own_namespace.as_deref() == namespace.or(default)
    };
    let hint = state.objects.iter().filter_map(key).find(|key| key.3 == name).map(|(_, kind, namespace, name)| {
        let namespace = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
        format!("{kind}/{namespace}{name}")
    });
    let count = state.objects.len();
    state.retain(|object| !is_it(object));
    if state.objects.len() == count {
        let remedy = "check kind, namespace and name";
        return Err(Error::NotFound { what: text.to_owned(), hint, remedy });
    }
    Ok(())
}

/// Kinds as people write them: in any case, in the plural, or in kubectl's short form.
fn is_kind(written: &str, kind: &str) -> bool {
    let written = written.to_lowercase();
    let written = match written.as_str() {
        "netpol" => "networkpolicy",
        "ns" => "namespace",
        "po" => "pod",
        "cnp" => "clusternetworkpolicy",
        "anp" => "adminnetworkpolicy",
        "banp" => "baselineadminnetworkpolicy",
        "deploy" => "deployment",
        "sts" => "statefulset",
        "ds" => "daemonset",
        "rs" => "replicaset",
        other => other,
    };
    let kind = kind.to_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    written == kind || written == plural
}
