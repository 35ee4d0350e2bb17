//! The `kube` crate: what server, enforcer and controllers do.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, PropagationPolicy,
    WatchEvent, WatchParams,
};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::Lab;

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str) -> Pod {
    from(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}]},
    }))
}

fn deployment(name: &str) -> Deployment {
    from(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
        },
    }))
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the API: {other}"),
    }
}

#[tokio::test]
async fn a_pod_lives_and_dies() {
    let lab = Lab::start().await;
    let pods: Api<Pod> = Api::default_namespaced(lab.client().await);
    let made = pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let spec = made.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.containers[0].ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
    assert_eq!(made.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(code(pods.create(&PostParams::default(), &pod("a")).await.unwrap_err()), 409);

    let merge = |value: Value| Patch::Merge(value);
    let parameters = PatchParams::default();
    pods.patch("a", &parameters, &merge(json!({"spec": {"nodeName": "lab"}}))).await.unwrap();
    let running = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "other"}, "status": {"phase": "Running", "podIP": "10.244.0.9"}});
    let running = pods.patch_status("a", &parameters, &merge(running)).await.unwrap();
    assert_eq!(running.spec.unwrap().node_name.as_deref(), Some("lab"));
    assert_eq!(running.status.unwrap().pod_ip.as_deref(), Some("10.244.0.9"));
    let ignored = pods.patch("a", &parameters, &merge(json!({"status": {"phase": "Failed"}}))).await.unwrap();
    assert_eq!(ignored.status.unwrap().phase.as_deref(), Some("Running"));
    let moved = pods.patch("a", &parameters, &merge(json!({"spec": {"nodeName": "other"}}))).await;
    assert_eq!(code(moved.unwrap_err()), 422);

    let mut stale = made.clone();
    stale.metadata.labels = None;
    assert_eq!(code(pods.replace("a", &PostParams::default(), &stale).await.unwrap_err()), 409);

    // A pod that runs somewhere is given time; its node's agent ends it.
    let going = pods.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    assert!(pods.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let gone = pods.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(gone.is_right());
    assert_eq!(code(pods.get("a").await.unwrap_err()), 404);
}

#[tokio::test]
async fn owners_take_what_they_own_with_them() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    for (policy, remains, finished) in [
        (PropagationPolicy::Background, false, true),
        (PropagationPolicy::Orphan, true, true),
        (PropagationPolicy::Foreground, false, true),
    ] {
        let owner = deployments.create(&PostParams::default(), &deployment("d")).await.unwrap();
        let mut owned = pod("owned");
        owned.metadata.owner_references = Some(vec![from(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": owner.metadata.uid, "blockOwnerDeletion": true,
        }))]);
        pods.create(&PostParams::default(), &owned).await.unwrap();
        let parameters = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
        deployments.delete("d", &parameters).await.unwrap();
        assert_eq!(pods.get_opt("owned").await.unwrap().is_some(), remains, "{policy:?}");
        assert_eq!(deployments.get_opt("d").await.unwrap().is_none(), finished, "{policy:?}");
        if remains {
            assert!(pods.get("owned").await.unwrap().metadata.owner_references.is_none());
            pods.delete("owned", &DeleteParams::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn finalizers_hold_an_object_and_namespaces_wait_for_their_contents() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &from(json!({"metadata": {"name": "n"}}))).await.unwrap();
    assert_eq!(made.metadata.labels.unwrap()["kubernetes.io/metadata.name"], "n");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "n");
    let held = from(json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}, "data": {"a": "b"}}));
    maps.create(&PostParams::default(), &held).await.unwrap();
    let going = namespaces.delete("n", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    assert_eq!(
        code(maps.create(&PostParams::default(), &from(json!({"metadata": {"name": "late"}}))).await.unwrap_err()),
        403
    );
    until(async || maps.get("held").await.is_ok_and(|map| map.metadata.deletion_timestamp.is_some())).await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &free).await.unwrap();
    until(async || namespaces.get_opt("n").await.unwrap().is_none()).await;
    assert_eq!(
        code(maps.create(&PostParams::default(), &from(json!({"metadata": {"name": "a"}}))).await.unwrap_err()),
        404
    );
    assert_eq!(code(namespaces.delete("kube-system", &DeleteParams::default()).await.unwrap_err()), 403);
}

/// Waits for what must come true soon.
async fn until(mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it did not come true within 5 s");
}

#[tokio::test]
async fn watches_see_every_change_of_what_they_select() {
    let lab = Lab::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(lab.client().await);
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let selected = WatchParams::default().labels("app=a");
    let mut events = maps.watch(&selected, &version).await.unwrap().boxed();
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    let named = |name: &str| ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &named("m")).await.unwrap();
    let parameters = PatchParams::default();
    maps.patch("m", &parameters, &label(json!("a"))).await.unwrap();
    maps.patch("m", &parameters, &Patch::Merge(json!({"data": {"x": "y"}}))).await.unwrap();
    maps.patch("m", &parameters, &label(json!("b"))).await.unwrap();
    maps.patch("m", &parameters, &label(json!("a"))).await.unwrap();
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 5 {
        kinds.push(match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    assert_eq!(kinds, ["added", "modified", "deleted", "added", "deleted"]);

    let mut events = maps.watch(&WatchParams::default(), "999999").await.unwrap().boxed();
    let Some(WatchEvent::Error(status)) = events.try_next().await.unwrap() else { panic!("no error") };
    assert_eq!(status.code, 410);
}

#[tokio::test]
async fn field_selectors_choose_what_is_listed_and_watched() {
    let lab = Lab::start().await;
    let pods: Api<Pod> = Api::default_namespaced(lab.client().await);
    for name in ["a", "b"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status("a", &PatchParams::default(), &running).await.unwrap();
    for (fields, expected) in [
        ("metadata.name=a", &["a"][..]),
        ("metadata.name!=a", &["b"]),
        ("status.phase=Running", &["a"]),
        ("status.phase=Pending", &["b"]),
        ("status.phase!=Running,metadata.name=a", &[]),
        ("status.phase=Failed", &[]),
        ("spec.nodeName=", &["a", "b"]),
        ("spec.nodeName=lab", &[]),
    ] {
        let found = pods.list(&ListParams::default().fields(fields)).await.unwrap();
        let names: Vec<_> = found.items.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        assert_eq!(names, expected, "{fields}");
    }
    for (fields, says) in [
        ("spec.color=red", "field label not supported: spec.color"),
        ("metadata.name", "metadata.name"),
        ("status.phase>Running", "status.phase>Running"),
    ] {
        let error = pods.list(&ListParams::default().fields(fields)).await.unwrap_err();
        let kube::Error::Api(status) = error else { panic!("{fields}: not an answer of the API: {error}") };
        assert!(status.code == 400 && status.message.contains(says), "{fields}: {status:?}");
    }

    // Whoever leaves what is selected is gone for the watch, as with labels.
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let selected = WatchParams::default().fields("status.phase=Pending");
    let mut events = pods.watch(&selected, &version).await.unwrap().boxed();
    pods.patch_status("b", &PatchParams::default(), &running).await.unwrap();
    let Some(WatchEvent::Deleted(gone)) = events.try_next().await.unwrap() else { panic!("no deletion") };
    assert_eq!(gone.metadata.name.as_deref(), Some("b"));
}

#[tokio::test]
async fn kube_runtime_watches_by_list_and_by_streaming_list() {
    let lab = Lab::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(lab.client().await);
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &from(json!({"metadata": {"name": name}}))).await.unwrap();
    }
    for config in [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()] {
        let mut events = watcher(maps.clone(), config).boxed();
        let mut names = Vec::new();
        loop {
            match events.try_next().await.unwrap().unwrap() {
                watcher::Event::InitApply(map) => names.push(map.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(names, ["a", "b", "c"]);
        let late = from(json!({"metadata": {"name": "late"}}));
        maps.create(&PostParams::default(), &late).await.unwrap();
        let Some(watcher::Event::Apply(map)) = events.try_next().await.unwrap() else { panic!("no event") };
        assert_eq!(map.metadata.name.as_deref(), Some("late"));
        maps.delete("late", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn server_side_apply_keeps_book_of_who_owns_what() {
    let lab = Lab::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(lab.client().await);
    let config = |image: &str, labels: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels},
            "spec": {
                "selector": {"matchLabels": {"app": "d"}},
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            },
        })
    };
    let one = PatchParams::apply("one");
    let made = deployments.patch("d", &one, &Patch::Apply(config("x:1", json!({"a": "1", "b": "1"})))).await.unwrap();
    let again = deployments.patch("d", &one, &Patch::Apply(config("x:1", json!({"a": "1", "b": "1"})))).await.unwrap();
    assert_eq!(
        made.metadata.resource_version, again.metadata.resource_version,
        "an apply that changes nothing is no change"
    );
    let entry = &made.metadata.managed_fields.as_ref().unwrap()[0];
    assert_eq!((entry.manager.as_deref(), entry.operation.as_deref()), (Some("one"), Some("Apply")));
    let fields = &entry.fields_v1.as_ref().unwrap().0;
    assert_eq!(fields["f:metadata"], json!({"f:labels": {"f:a": {}, "f:b": {}}}));
    assert_eq!(
        fields["f:spec"]["f:template"]["f:spec"],
        json!({"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}})
    );

    // A label that is no longer applied goes; one that somebody else set stays.
    deployments
        .patch("d", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"c": "2"}}})))
        .await
        .unwrap();
    let less = deployments.patch("d", &one, &Patch::Apply(config("x:1", json!({"a": "1"})))).await.unwrap();
    assert_eq!(serde_json::to_value(less.metadata.labels).unwrap(), json!({"a": "1", "c": "2"}));

    let two = PatchParams::apply("two");
    let error = deployments.patch("d", &two, &Patch::Apply(config("x:2", json!({})))).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("not an answer of the API") };
    assert_eq!(status.code, 409);
    assert!(status.message.contains("conflict with \"one\""), "{}", status.message);
    assert!(status.message.contains(".spec.template.spec.containers[name=\"c\"].image"), "{}", status.message);
    let forced = deployments.patch("d", &two.force(), &Patch::Apply(config("x:2", json!({})))).await.unwrap();
    assert_eq!(forced.spec.unwrap().template.spec.unwrap().containers[0].image.as_deref(), Some("x:2"));

    // Scaling is an update of another manager: the next apply without `replicas` leaves it alone.
    let scaled = deployments
        .patch_scale("d", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 4}})))
        .await
        .unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(4));
    let kept =
        deployments.patch("d", &PatchParams::apply("two"), &Patch::Apply(config("x:3", json!({})))).await.unwrap();
    assert_eq!(kept.spec.unwrap().replicas, Some(4));
    assert_eq!(kept.metadata.generation, Some(4));
}

#[tokio::test]
async fn services_get_addresses_and_bad_objects_get_422() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let service = |name: &str, spec: Value| from(json!({"metadata": {"name": name}, "spec": spec}));
    let parameters = PostParams::default();
    let dns = service("dns", json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}));
    services.create(&parameters, &dns).await.unwrap();
    let taken = service("taken", json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53}]}));
    assert_eq!(code(services.create(&parameters, &taken).await.unwrap_err()), 422);
    let balanced = service("lb", json!({"type": "LoadBalancer", "ports": [{"port": 9000}]}));
    let balanced = services.create(&parameters, &balanced).await.unwrap().spec.unwrap();
    assert!(balanced.cluster_ip.as_ref().unwrap().starts_with("10.96."));
    let port = &balanced.ports.as_ref().unwrap()[0];
    assert!((30000..=32767).contains(&port.node_port.unwrap()));
    assert_eq!(serde_json::to_value(&port.target_port).unwrap(), json!(9000));
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.96.7.7"}}));
    assert_eq!(code(services.patch("lb", &PatchParams::default(), &moved).await.unwrap_err()), 422);

    let policies: Api<NetworkPolicy> = Api::default_namespaced(client);
    let bad =
        from(json!({"metadata": {"name": "p"}, "spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}}));
    let kube::Error::Api(status) = policies.create(&parameters, &bad).await.unwrap_err() else { panic!("no answer") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let causes = &status.details.unwrap().causes;
    assert_eq!(causes[0].field, "spec.egress[0].to[0].ipBlock.cidr");
    assert_eq!(causes[0].reason, "FieldValueInvalid");
}

#[tokio::test]
async fn what_was_written_outlives_the_server() {
    let lab = Lab::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(lab.client().await);
    let made = maps
        .create(&PostParams::default(), &from(json!({"metadata": {"name": "m"}, "data": {"a": "b"}})))
        .await
        .unwrap();
    let token = lab.kubeconfig().auth_infos[0].auth_info.clone();
    let lab = Lab::start_in(lab.stop().await).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(lab.client().await);
    assert_eq!(maps.get("m").await.unwrap(), made);
    assert_eq!(format!("{token:?}"), format!("{:?}", lab.kubeconfig().auth_infos[0].auth_info));
    let next = maps.create(&PostParams::default(), &from(json!({"metadata": {"name": "n"}}))).await.unwrap();
    let number = |map: &ConfigMap| map.metadata.resource_version.as_ref().unwrap().parse::<u64>().unwrap();
    assert!(number(&next) > number(&made));
}

#[tokio::test]
async fn exec_and_logs_reach_the_runtime() {
    use tokio::io::AsyncReadExt;
    let lab = Lab::start().await;
    let client = lab.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let mut process = pods.exec("a", ["sh", "-c", "echo out; exit 3"], &AttachParams::default()).await.unwrap();
    let mut text = String::new();
    process.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "out\n");
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Failure"));
    assert!(pods.logs("a", &kube::api::LogParams::default()).await.unwrap().contains("log of Pod"));
    assert_eq!(code(pods.logs("nobody", &kube::api::LogParams::default()).await.unwrap_err()), 404);
    let events: Api<Event> = Api::all(client);
    let about = ListParams::default().fields("involvedObject.name=a,involvedObject.kind=Pod");
    assert!(events.list(&about).await.unwrap().items.is_empty());
    assert_eq!(code(events.list(&ListParams::default().fields("spec.colour=red")).await.unwrap_err()), 400);
}
