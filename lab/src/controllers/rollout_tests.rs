//! Rollouts played against a small model of a cluster: sets obey at once, pods become available one by one.

use super::*;
use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSetStatus};
use serde_json::{Value, json};

fn deployment(spec: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"run": "web"}},
            "template": {"metadata": {"labels": {"run": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
        },
    });
    value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn with_image(mut deployment: Deployment, image: &str) -> Deployment {
    let template = &mut deployment.spec.as_mut().unwrap().template;
    template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    *deployment.metadata.generation.as_mut().unwrap() += 1;
    deployment
}

/// What the API server would hold.
struct Model {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    clock: Timestamp,
    /// Sets of this image never become available.
    broken: Option<&'static str>,
    /// `total available` after each step.
    trace: Vec<(i32, i32)>,
}

impl Model {
    fn new(deployment: Deployment) -> Self {
        let clock = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { deployment, sets: Vec::new(), clock, broken: None, trace: Vec::new() }
    }

    /// Steps until nothing moves any more.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..200 {
            let owned: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
            let step = step(&self.deployment, &owned, self.clock);
            let idle = step.sets.is_empty() && step.deployment.is_none();
            self.obey(step);
            self.trace.push((self.total(), self.sets.iter().map(available).sum()));
            if !self.one_pod_moves() && idle {
                return self;
            }
        }
        panic!("still moving after 200 steps: {:?}", self.shape());
    }

    fn obey(&mut self, step: Step) {
        for command in step.sets {
            match command {
                Command::Create(set) => {
                    let mut set = *set;
                    set.metadata.uid = set.metadata.name.clone();
                    let age = i64::try_from(self.sets.len()).unwrap();
                    let second = Timestamp::from_second(age).unwrap();
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(second));
                    self.sets.push(set);
                }
                Command::Replace(set) => {
                    let name = set.name_any();
                    *self.find(&name) = *set;
                }
                Command::Patch((_, name), patch) => {
                    let annotations = self.find(&name).metadata.annotations.get_or_insert_default();
                    for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
                        annotations.insert(key.clone(), value.as_str().unwrap().to_owned());
                    }
                }
                Command::Delete((_, name), _) => self.sets.retain(|set| set.name_any() != name),
                Command::ReplaceStatus(_) | Command::PatchStatus(..) => {
                    panic!("a Deployment leaves its sets' status alone")
                }
            }
        }
        match step.deployment {
            Some(Command::ReplaceStatus(deployment)) => self.deployment.status = deployment.status,
            Some(Command::Patch(_, patch)) => {
                let revision = patch["metadata"]["annotations"][REVISION].as_str().unwrap().to_owned();
                self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
            }
            Some(other) => panic!("{other}"),
            None => {}
        }
    }

    fn find(&mut self, name: &str) -> &mut ReplicaSet {
        self.sets.iter_mut().find(|set| set.name_any() == name).unwrap()
    }

    /// One pod of one set comes or goes.
    fn one_pod_moves(&mut self) -> bool {
        for set in &mut self.sets {
            let image = set.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap().containers[0]
                .image
                .clone();
            let broken = image.as_deref() == self.broken && self.broken.is_some();
            let (wanted, has) = (wanted(set), available(set));
            let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
            let before = status.clone();
            status.replicas = wanted;
            let now = if has > wanted {
                wanted
            } else if has < wanted && !broken {
                has + 1
            } else {
                has
            };
            status.available_replicas = Some(now);
            status.ready_replicas = Some(now);
            if *status != before {
                return true;
            }
        }
        false
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(wanted).sum()
    }

    /// `image:wanted` of each set, oldest first.
    fn shape(&self) -> Vec<String> {
        self.sets
            .iter()
            .map(|set| {
                let spec = set.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap();
                format!("{}:{}", spec.containers[0].image.as_deref().unwrap(), wanted(set))
            })
            .collect()
    }

    fn status(&self) -> &DeploymentStatus {
        self.deployment.status.as_ref().unwrap()
    }

    fn reason(&self, type_: &str) -> String {
        let conditions = self.status().conditions.as_ref().unwrap();
        conditions.iter().find(|condition| condition.type_ == type_).unwrap().reason.clone().unwrap()
    }
}

#[test]
fn a_first_rollout_completes() {
    let mut model = Model::new(deployment(json!({})));
    model.settle();
    assert_eq!(model.shape(), ["one:4"]);
    let status = model.status();
    assert_eq!(
        (status.updated_replicas, status.available_replicas, status.unavailable_replicas),
        (Some(4), Some(4), None)
    );
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        (model.reason("Progressing"), model.reason("Available")),
        ("NewReplicaSetAvailable".into(), "MinimumReplicasAvailable".into())
    );
    assert_eq!(model.deployment.annotations()[REVISION], "1");
    let set = &model.sets[0];
    let hash = &set.labels()[TEMPLATE_HASH];
    assert_eq!(set.name_any(), format!("web-{hash}"));
    assert_eq!(set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[TEMPLATE_HASH], *hash);
}

#[test]
fn a_rolling_update_keeps_its_bounds() {
    // maxSurge, maxUnavailable, most pods at any time, fewest available at any time.
    for (surge, unavailable, most, fewest) in [
        (json!("25%"), json!("25%"), 5, 3),
        (json!(0), json!(1), 4, 3),
        (json!(2), json!(0), 6, 4),
        (json!("100%"), json!("0%"), 8, 4),
        (json!(0), json!(0), 4, 3),
        (json!(0), json!("100%"), 4, 0),
    ] {
        let rolling = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}});
        let mut model = Model::new(deployment(rolling));
        model.settle();
        model.deployment = with_image(model.deployment.clone(), "two");
        model.trace.clear();
        model.settle();
        let case = format!("{surge}/{unavailable}");
        assert_eq!(model.shape(), ["one:0", "two:4"], "{case}");
        assert!(model.trace.iter().all(|(total, _)| *total <= most), "{case}: {:?}", model.trace);
        assert!(model.trace.iter().all(|(_, available)| *available >= fewest), "{case}: {:?}", model.trace);
        assert_eq!(model.deployment.annotations()[REVISION], "2", "{case}");
    }
}

#[test]
fn recreate_ends_the_old_before_the_new_begin() {
    let mut model = Model::new(deployment(json!({"strategy": {"type": "Recreate"}})));
    model.settle();
    model.deployment = with_image(model.deployment.clone(), "two");
    model.trace.clear();
    model.settle();
    assert_eq!(model.shape(), ["one:0", "two:4"]);
    assert!(model.trace.iter().any(|(total, _)| *total == 0), "{:?}", model.trace);
}

#[test]
fn a_broken_update_stops_at_its_bounds_and_says_so() {
    let mut model = Model::new(deployment(json!({"progressDeadlineSeconds": 30})));
    model.settle();
    model.broken = Some("two");
    model.deployment = with_image(model.deployment.clone(), "two");
    model.settle();
    assert_eq!(model.shape(), ["one:3", "two:2"]);
    assert_eq!(model.reason("Progressing"), "ReplicaSetUpdated");
    model.clock += std::time::Duration::from_secs(31);
    model.settle();
    assert_eq!(model.reason("Progressing"), "ProgressDeadlineExceeded");
    // Back to what worked: the same set, with a new revision.
    model.deployment = with_image(model.deployment.clone(), "one");
    model.settle();
    assert_eq!(model.shape(), ["one:4", "two:0"]);
    assert_eq!(
        (model.deployment.annotations()[REVISION].as_str(), model.reason("Progressing").as_str()),
        ("3", "NewReplicaSetAvailable")
    );
}

#[test]
fn scaling_needs_no_new_set() {
    let mut model = Model::new(deployment(json!({})));
    model.settle();
    for replicas in [7, 1, 0, 3] {
        model.deployment.spec.as_mut().unwrap().replicas = Some(replicas);
        model.settle();
        assert_eq!(model.shape(), [format!("one:{replicas}")]);
        assert_eq!(model.status().replicas.unwrap_or(0), replicas);
    }
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut model = Model::new(deployment(json!({})));
    model.settle();
    model.deployment = with_image(model.deployment.clone(), "two");
    let spec = model.deployment.spec.as_mut().unwrap();
    (spec.paused, spec.replicas) = (Some(true), Some(6));
    model.settle();
    assert_eq!(model.shape(), ["one:6"]);
    assert_eq!(model.reason("Progressing"), "DeploymentPaused");
    model.deployment.spec.as_mut().unwrap().paused = None;
    model.settle();
    assert_eq!(model.shape(), ["one:0", "two:6"]);
}

#[test]
fn history_is_kept_as_long_as_asked_for() {
    let mut model = Model::new(deployment(json!({"revisionHistoryLimit": 2})));
    for image in ["one", "two", "three", "four", "five"] {
        model.deployment = with_image(model.deployment.clone(), image);
        model.settle();
    }
    assert_eq!(model.shape(), ["three:0", "four:0", "five:4"]);
}

#[test]
fn a_deployment_that_is_going_does_nothing() {
    let mut going = deployment(json!({}));
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    assert_eq!(step(&going, &[], Timestamp::UNIX_EPOCH), Step::default());
}

#[test]
fn the_hash_is_the_templates_alone() {
    let one = deployment(json!({}));
    let scaled = deployment(json!({"replicas": 9}));
    let two = with_image(one.clone(), "two");
    let hash = |deployment: &Deployment| template_hash(&deployment.spec.as_ref().unwrap().template);
    assert_eq!(hash(&one), hash(&scaled));
    assert_ne!(hash(&one), hash(&two));
    assert_eq!(hash(&one).len(), 10);
}
