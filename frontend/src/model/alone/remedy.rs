//! What would open a connection that is shut, and what it would open besides.

use signalbox_policy::{Connection, Protocol, Route};

use super::cell;
use super::scene::Scene;
use super::workspace::Workspace;

/// The engine's patch, in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// What each patch changes.
    pub summaries: Vec<String>,
    /// All patches as one text for `kubectl apply -f -`.
    pub yaml: String,
    /// What else opens: `frontend/web to backend/extsvc: TCP 9000`.
    pub also_opens: Vec<String>,
    /// Why it stays shut all the same.
    pub obstacles: Vec<String>,
    /// Name of the policy as the engine writes it, with its new text.
    patches: Vec<(String, String)>,
}

/// `None`: the connection is not shut for certain.
pub fn remedy(scene: &Scene, from: usize, to: usize, protocol: Protocol, port: u16) -> Option<Remedy> {
    let (from, to) = (&scene.ends[from].party, &scene.ends[to].party);
    let connection = Connection { from, to, protocol, port, route: Route::Direct, family: None };
    let found = scene.now.remedy(&connection)?;
    let also = found.also_opens.iter();
    Some(Remedy {
        summaries: found.patches.iter().map(|patch| patch.summary.clone()).collect(),
        yaml: found.yaml(),
        also_opens: also.map(|it| format!("{} to {}: {}", it.from, it.to, cell::ports(&it.traffic))).collect(),
        obstacles: found.obstacles.clone(),
        patches: found.patches.iter().map(|patch| (patch.object.to_string(), patch.yaml.clone())).collect(),
    })
}

impl Remedy {
    /// Puts the patches into a workspace.
    pub fn apply(&self, workspace: &mut Workspace) {
        for (name, yaml) in &self.patches {
            match workspace.named(name).map(|item| item.id) {
                Some(id) => workspace.edit(id, yaml),
                None => {
                    workspace.create(yaml);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::why::why;
    use super::*;
    use crate::model::alone::cell::Shade;

    #[test]
    fn a_patch_opens_what_it_says() {
        let mut workspace = sample::lesson(2);
        let scene = Scene::build(&workspace, None);
        let (web, dbsvc) = (2, 0);
        let remedy = remedy(&scene, web, dbsvc, Protocol::Tcp, 9000).expect("it is shut");
        assert_eq!(remedy.obstacles, [] as [&str; 0]);
        assert!(!remedy.summaries.is_empty() && remedy.yaml.contains("NetworkPolicy"), "{remedy:?}");
        remedy.apply(&mut workspace);
        let scene = Scene::build(&workspace, None);
        let why = why(&workspace, &scene, web, dbsvc, Protocol::Tcp, 9000);
        assert_eq!((why.shade, why.before), (Shade::Open, Some("shut")));
        assert!(super::remedy(&scene, web, dbsvc, Protocol::Tcp, 9000).is_none(), "it is open now");
    }
}
