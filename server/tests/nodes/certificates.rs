//! Where the server's certificate comes from.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams};

use crate::support::*;

#[tokio::test]
async fn the_next_server_has_the_same_authority_and_another_one_is_not_trusted() {
    let bench = Bench::start().await;
    let secrets: Api<Secret> = Api::namespaced(bench.cluster.client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(bench.cluster.client.clone(), NAMESPACE);
    let first = secrets.get("signalbox-server-tls").await.expect("the Secret").data.expect("data");
    let trusted = maps.get("signalbox-ca").await.expect("the ConfigMap").data.expect("data");
    assert_eq!(trusted.keys().collect::<Vec<_>>(), ["ca.crt"], "nothing but the public half");
    assert!(!trusted["ca.crt"].contains("PRIVATE"));
    let second = bench.cluster.serve(Cluster::streams()).await;
    let again = secrets.get("signalbox-server-tls").await.expect("the Secret").data.expect("data");
    assert_eq!(first, again);
    let bench = Bench { server: second, ..bench };
    bench.connect_trusting(&trusted["ca.crt"]).await.expect("it is trusted");
    let stranger = Cluster::start().await;
    stranger.serve(Cluster::streams()).await;
    let maps: Api<ConfigMap> = Api::namespaced(stranger.client.clone(), NAMESPACE);
    let other = maps.get("signalbox-ca").await.expect("the ConfigMap").data.expect("data");
    assert!(bench.connect_trusting(&other["ca.crt"]).await.is_err(), "somebody else's authority");
    bench.end().await;
}

#[tokio::test]
async fn a_secret_that_somebody_made_is_used_as_it_is() {
    // What one server makes is somebody's own for another cluster's, without the marks of ours.
    let origin = Cluster::start().await;
    origin.serve(Cluster::streams()).await;
    let secrets: Api<Secret> = Api::namespaced(origin.client.clone(), NAMESPACE);
    let mut data = secrets.get("signalbox-server-tls").await.expect("the Secret").data.expect("data");
    data.remove("ca.key");
    let cluster = Cluster::start().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let mut theirs =
        Secret { data: Some(data.clone()), type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
    theirs.metadata.name = Some("signalbox-server-tls".to_owned());
    let theirs = secrets.create(&PostParams::default(), &theirs).await.expect("it is created");
    let server = cluster.serve(Cluster::streams()).await;
    let bench = Bench { cluster, server };
    bench.connect().await;
    let after = secrets.get("signalbox-server-tls").await.expect("the Secret");
    assert_eq!(after.metadata.resource_version, theirs.metadata.resource_version, "it was not written to");
    bench.end().await;
}

#[tokio::test]
async fn without_a_certificate_the_server_says_what_is_missing() {
    let cluster = Cluster::start().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let data =
        [("tls.crt".to_owned(), ByteString(b"rubbish".to_vec())), ("tls.key".to_owned(), ByteString(Vec::new()))];
    let mut broken =
        Secret { data: Some(data.into()), type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() };
    broken.metadata.name = Some("signalbox-server-tls".to_owned());
    secrets.create(&PostParams::default(), &broken).await.expect("it is created");
    let start = |streams| {
        let listen = ([127, 0, 0, 1], 0).into();
        let token = "0123456789abcdef".to_owned();
        let config = signalbox_server::Config { listen, token, streams: Some(streams), ..Default::default() };
        signalbox_server::start(config, cluster.client.clone(), None, cluster.shutdown.clone())
    };
    let error = start(Cluster::streams()).await.err().expect("it does not start").to_string();
    assert!(error.contains("signalbox-system/signalbox-server-tls cannot be used"), "{error}");
    // A namespace that is not there stands for rights that are not: the API server's own words are passed on.
    let elsewhere = signalbox_server::StreamsConfig { namespace: "nowhere".to_owned(), ..Cluster::streams() };
    let error = start(elsewhere).await.err().expect("it does not start").to_string();
    assert!(error.contains("cannot create the Secret nowhere/signalbox-server-tls"), "{error}");
    assert!(error.contains("`create`"), "{error}");
}
