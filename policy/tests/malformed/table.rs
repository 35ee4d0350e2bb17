//! Malformed documents, each of its own kind, and what is said of them. It is a table: as long as there are kinds.

/// What the second of three documents of `manifests.yaml` is, and what is said of it.
pub const CASES: &[(&str, &str)] = &[
    // YAML and JSON.
    (
        "kind: Pod\nmetadata: {name: a",
        ", line 5, column 11: unclosed bracket '{'; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nmetadata:\n\tname: a",
        ", line 6, column 2: tabs disallowed within this context (block indentation); mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nmetadata: {name: 'a}",
        ", line 5, column 18: unclosed quote; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nkind: Pod",
        ", line 5, column 1: duplicate mapping key: kind; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nspec: *nobody",
        ", line 5, column 7: alias references unknown anchor; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nmetadata: a: b",
        ", line 5, column 12: mapping values are not allowed in this context; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nmetadata:\n  name: a\n labels: {}",
        ", line 7, column 2: while parsing a block mapping, did not find expected key; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: Pod\nspec: [a, b",
        ", line 5, column 7: unclosed bracket '['; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "kind: \"Pod\\q\"",
        ", line 4, column 7: while parsing a quoted scalar, found unknown escape character; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "- kind: Pod\n- kind: Pod",
        ", line 3, column 1: the document is no object; a Kubernetes object has apiVersion, kind and metadata",
    ),
    (
        "just a text",
        ", line 3, column 1: the document is no object; a Kubernetes object has apiVersion, kind and metadata",
    ),
    ("42", ", line 3, column 1: the document is no object; a Kubernetes object has apiVersion, kind and metadata"),
    (
        "{\"kind\": \"Pod\", \"kind\": \"Pod\"}",
        ", line 4, column 17: duplicate mapping key: kind; mend the YAML there: check indentation, colons and quotes",
    ),
    (
        "{\"kind\": \"Pod\", \"metadata\": ",
        ", line 4, column 1: unclosed bracket '{'; mend the YAML there: check indentation, colons and quotes",
    ),
    // Objects.
    ("metadata: {name: what}", ": Object 2: kind: is required; add it"),
    (
        "apiVersion: v1\nkind: Namespace\nmetadata: {labels: {a: b}}",
        ": Namespace (without a name): metadata.name: is required; add it",
    ),
    (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: 7}",
        ": Namespace (without a name): metadata.name: must be a string (put it in quotes), not the number 7",
    ),
    (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: z, labels: {a: [b]}}",
        ": Namespace z: metadata.labels.a: must be a string, not a list",
    ),
    (
        "apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: a}",
        ": Node n: metadata.labels: must be an object, not the string \"a\"",
    ),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {namespace: z, name: c}",
        ": CiliumNetworkPolicy z/c: apiVersion: cilium.io/v2 CiliumNetworkPolicy cannot be judged; write it as a NetworkPolicy (networking.k8s.io/v1), a ClusterNetworkPolicy, or a policy of Calico's default tier",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: z, name: Web_1}\nspec: {podSelector: {}}",
        ": NetworkPolicy z/Web_1: metadata.name: \"Web_1\" is no name that the API takes; write at most 253 characters of a-z, 0-9, - and ., with a letter or digit at both ends of each part",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: a..b}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy a..b: metadata.name: \"a..b\" is no name that the API takes; write at most 253 characters of a-z, 0-9, - and ., with a letter or digit at both ends of each part",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: -g}\nspec: {}",
        ": GlobalNetworkPolicy -g: metadata.name: \"-g\" is no name that the API takes; write at most 253 characters of a-z, 0-9, - and ., with a letter or digit at both ends of each part",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: z, name: whole}\nspec: {podSelector: {}, ingress: [{ports: [{port: 80.0}]}]}",
        ": NetworkPolicy z/whole: spec.ingress[0].ports[0].port: must be a whole number, without a decimal point, not the number 80.0",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: z, name: {{ .Values.name }}}",
        ", line 6, column 32: looks like a Helm template, with {{ }} in it; render it first, as with helm template CHART, and read what comes out",
    ),
    (
        "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {namespace: z, name: old}",
        ": NetworkPolicy z/old: apiVersion: extensions/v1beta1 NetworkPolicy cannot be judged; write it as a NetworkPolicy (networking.k8s.io/v1), a ClusterNetworkPolicy, or a policy of Calico's default tier",
    ),
    (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: z, name: d}\nspec: {replicas: 1}",
        ": Deployment z/d: spec.template: is required; add it",
    ),
    (
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {namespace: z, name: d}\nspec: {jobTemplate: {spec: {}}}",
        ": CronJob z/d: spec.jobTemplate.spec.template: is required; add it",
    ),
    // Pods.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {hostNetwork: 'true'}",
        ": Pod x/odd: spec.hostNetwork: must be true or false, not the string \"true\"",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {nodeName: 5}",
        ": Pod x/odd: spec.nodeName: must be a string (put it in quotes), not the number 5",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {containers: {}}",
        ": Pod x/odd: spec.containers: must be a list, not an object",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {containers: [{ports: [{name: http, containerPort: http}]}]}",
        ": Pod x/odd: spec.containers[0].ports[0].containerPort: must be a whole number, not the string \"http\"",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {containers: [{ports: [{name: http, containerPort: 70000}]}]}",
        ": Pod x/odd: spec.containers[0].ports[0].containerPort: must be between 1 and 65535, not 70000",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {containers: [{ports: [{name: http}]}]}",
        ": Pod x/odd: spec.containers[0].ports[0].containerPort: is required; add it",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nspec: {containers: [{ports: [{name: http, containerPort: 1, protocol: X}]}]}",
        ": Pod x/odd: spec.containers[0].ports[0].protocol: must be one of TCP, UDP, SCTP, not \"X\"",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nstatus: {podIP: 10.0.0}",
        ": Pod x/odd: status.podIP: \"10.0.0\" is no IP address; write one, as in 10.0.0.1 or fd00::1",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nstatus: {podIPs: [{ip: 10.0.0.0/8}]}",
        ": Pod x/odd: status.podIPs[0].ip: \"10.0.0.0/8\" is no IP address; write one, as in 10.0.0.1 or fd00::1",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: x, name: odd}\nstatus: {phase: 1}",
        ": Pod x/odd: status.phase: must be a string (put it in quotes), not the number 1",
    ),
    // NetworkPolicy.
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x}",
        ": NetworkPolicy x/(without a name): metadata.name: is required; add it",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: []",
        ": NetworkPolicy x/np: spec: must be an object, not a list",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: web}",
        ": NetworkPolicy x/np: spec.podSelector: must be an object, not the string \"web\"",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelectr: {}}",
        ": NetworkPolicy x/np: spec.podSelectr: is no field of networking.k8s.io/v1; check its spelling and its indentation",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchLabels: {a: 1}}}",
        ": NetworkPolicy x/np: spec.podSelector.matchLabels.a: must be a string (put it in quotes), not the number 1",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchLabels: {'a b': c}}}",
        ": NetworkPolicy x/np: spec.podSelector.matchLabels[a b]: \"a b\" is no label key; write an optional DNS prefix and a slash, then at most 63 characters of A-Z, a-z, 0-9, -, _ and .",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchLabels: {a: 'b c'}}}",
        ": NetworkPolicy x/np: spec.podSelector.matchLabels.a: \"b c\" is no label value; write at most 63 characters of A-Z, a-z, 0-9, -, _ and .",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchExpressions: [{operator: Exists}]}}",
        ": NetworkPolicy x/np: spec.podSelector.matchExpressions[0].key: is required; add it",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
        ": NetworkPolicy x/np: spec.podSelector.matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist, not \"in\"",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchExpressions: [{key: a, operator: In}]}}",
        ": NetworkPolicy x/np: spec.podSelector.matchExpressions[0].values: must not be empty with operator In; name at least one value",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
        ": NetworkPolicy x/np: spec.podSelector.matchExpressions[0].values: must be empty with operator Exists; leave it out",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {policyTypes: [ingress]}",
        ": NetworkPolicy x/np: spec.policyTypes[0]: must be one of Ingress, Egress, not \"ingress\"",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {policyTypes: [Ingress, Egress, Ingress]}",
        ": NetworkPolicy x/np: spec.policyTypes: has more than 2 items; remove some, or split what holds it in two",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: {}}",
        ": NetworkPolicy x/np: spec.ingress: must be a list, not an object",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [null]}",
        ": NetworkPolicy x/np: spec.ingress[0]: must be an object, not null",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{to: []}]}",
        ": NetworkPolicy x/np: spec.ingress[0].to: is no field of networking.k8s.io/v1; check its spelling and its indentation",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0]: needs a podSelector, a namespaceSelector or an ipBlock",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.1\" is no CIDR; write an address and a prefix length, as in 10.0.0.0/8 or fd00::/8",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no CIDR; write an address and a prefix length, as in 10.0.0.0/8 or fd00::/8",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0].ipBlock.cidr: \"::ffff:10.0.0.0/104\" is an IPv4 block written as IPv6; write it as IPv4",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 must lie inside 10.0.0.0/8 and be smaller; correct one of the two",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].from[0]: ipBlock stands alone; put podSelector and namespaceSelector into an item of their own",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{port: 65536}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].port: must be between 1 and 65535, not 65536",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{port: '80'}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].port: \"80\" is no port name; a name has at most 15 characters of a-z, 0-9 and -, at least one letter, and a number stands without quotes",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{port: [80]}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].port: must be a port number or the name of a port, not a list",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{protocol: ICMP}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].protocol: must be one of TCP, UDP, SCTP, not \"ICMP\"",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{endPort: 80}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].endPort: needs a numeric port beside it; give it one, or leave endPort out",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{port: http, endPort: 80}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].endPort: needs a numeric port beside it; give it one, or leave endPort out",
    ),
    (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: np}\nspec: {ingress: [{ports: [{port: 90, endPort: 80}]}]}",
        ": NetworkPolicy x/np: spec.ingress[0].ports[0].endPort: 80 is smaller than port 90; swap them",
    ),
    // ClusterNetworkPolicy.
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}",
        ": ClusterNetworkPolicy c: spec: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {priority: 1, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.tier: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: admin, priority: 1, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.tier: must be one of Admin, Baseline, not \"admin\"",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.priority: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1001, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.priority: must be a whole number from 0 to 1000, not 1001",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: -1, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.priority: must be a whole number from 0 to 1000, not -1",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1.5, subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.priority: must be a whole number from 0 to 1000, not 1.5",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: '1', subject: {namespaces: {}}}",
        ": ClusterNetworkPolicy c: spec.priority: must be a whole number, not the string \"1\"",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1}",
        ": ClusterNetworkPolicy c: spec.subject: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {}}",
        ": ClusterNetworkPolicy c: spec.subject: needs exactly one of namespaces, pods, not 0 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}, pods: {podSelector: {}}}}",
        ": ClusterNetworkPolicy c: spec.subject: needs exactly one of namespaces, pods, not 2 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}}}}",
        ": ClusterNetworkPolicy c: spec.subject.pods.podSelector: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, policyTypes: [Ingress]}",
        ": ClusterNetworkPolicy c: spec.policyTypes: is no field of policy.networking.k8s.io/v1alpha2; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress: has more than 25 items; remove some, or split what holds it in two",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Allow, from: [{namespaces: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].action: must be one of Accept, Deny, Pass, not \"Allow\"",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{from: [{namespaces: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].action: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].from: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: []}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].from: must have at least one item; add one",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].from[0]: needs exactly one of namespaces, pods, not 0 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}, pods: {podSelector: {}}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].from[0]: needs exactly one of namespaces, pods, not 2 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{networks: [10.0.0.0/8]}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].from[0].networks: is no field of policy.networking.k8s.io/v1alpha2; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{name: nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn, action: Deny, from: [{namespaces: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].name: must be at most 100 characters long; shorten it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: []}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols: must have at least one item; add one",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{icmp: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].icmp: is no field of policy.networking.k8s.io/v1alpha2; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].tcp.destinationPort: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {}}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].tcp.destinationPort: needs exactly one of number, range, not 0 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].tcp.destinationPort.number: must be between 1 and 65535, not 0",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 80}}}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].tcp.destinationPort.range.end: 80 must be greater than start 80; write a single port as number",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: HTTP}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].protocols[0].destinationNamedPort: \"HTTP\" is no port name; a name has at most 15 characters of a-z, 0-9 and -, at least one letter, and a number stands without quotes",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {port: 80}}]}]}",
        ": ClusterNetworkPolicy c: spec.ingress[0].ports: is no field of policy.networking.k8s.io/v1alpha2; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Accept, to: [{domainNames: [example.org]}]}]}",
        ": ClusterNetworkPolicy c: spec.egress[0].to[0].domainNames: depends on what the names resolve to; name networks instead to have it judged",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: []}]}]}",
        ": ClusterNetworkPolicy c: spec.egress[0].to[0].networks: must have at least one item; add one",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.0]}]}]}",
        ": ClusterNetworkPolicy c: spec.egress[0].to[0].networks[0]: \"10.0.0.0\" is no CIDR; write an address and a prefix length, as in 10.0.0.0/8 or fd00::/8",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: http}]}]}",
        ": ClusterNetworkPolicy c: spec.egress[0].protocols[0].destinationNamedPort: names a port, which counts for pods only, beside nodes, networks or domainNames; write its number, or split the rule",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1beta1\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.1/8]}]}]}",
        ": ClusterNetworkPolicy c: spec.egress[0].to[0].networks[0]: \"10.0.0.1/8\" has bits set behind its prefix, which this version of the API refuses; write 10.0.0.0/8",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]}",
        ": AdminNetworkPolicy a: spec.ingress[0].action: must be one of Allow, Deny, Pass, not \"Accept\"",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{pods: {podSelector: {}}}]}]}",
        ": AdminNetworkPolicy a: spec.ingress[0].from[0].pods.namespaceSelector: is required; add it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {protocol: tcp, port: 80}}]}]}",
        ": AdminNetworkPolicy a: spec.ingress[0].ports[0].portNumber.protocol: must be one of TCP, UDP, SCTP, not \"tcp\"",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portRange: {start: 90, end: 80}}]}]}",
        ": AdminNetworkPolicy a: spec.ingress[0].ports[0].portRange.end: 80 must be greater than start 90; write a single port as portNumber",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{}]}]}",
        ": AdminNetworkPolicy a: spec.ingress[0].ports[0]: needs exactly one of portNumber, portRange, namedPort, not 0 of them",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}}",
        ": AdminNetworkPolicy a: spec.tier: is no field of policy.networking.k8s.io/v1alpha1; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: mine}\nspec: {subject: {namespaces: {}}}",
        ": BaselineAdminNetworkPolicy mine: metadata.name: must be default, not \"mine\": there is only one of its kind in a cluster; rename it",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: default}\nspec: {priority: 1, subject: {namespaces: {}}}",
        ": BaselineAdminNetworkPolicy default: spec.priority: is no field of policy.networking.k8s.io/v1alpha1; check its spelling and its indentation",
    ),
    (
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: default}\nspec: {subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}",
        ": BaselineAdminNetworkPolicy default: spec.ingress[0].action: must be one of Allow, Deny, not \"Pass\"",
    ),
    // Calico.
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: 'app = web'}",
        ": GlobalNetworkPolicy g: spec.selector: one of ==, !=, in, not in, contains, starts with and ends with should stand at character 5; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: 'app == web'}",
        ": GlobalNetworkPolicy g: spec.selector: a text in quotes should stand at character 8; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: \"app == 'web\"}",
        ": GlobalNetworkPolicy g: spec.selector: a text in quotes has no end that begins at character 8; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: \"(app == 'web'\"}",
        ": GlobalNetworkPolicy g: spec.selector: a closing ) is missing at character 14; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: \"app in 'web'\"}",
        ": GlobalNetworkPolicy g: spec.selector: a set in braces should stand at character 8; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: \"app == 'web' and has(tier)\"}",
        ": GlobalNetworkPolicy g: spec.selector: the expression should end, or go on with && or ||, at character 14; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: \"has(app) && global()\"}",
        ": GlobalNetworkPolicy g: spec.selector: global() stands alone, and here it is part of an expression at character 13; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: '(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((all())))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))'}",
        ": GlobalNetworkPolicy g: spec.selector: parentheses are nested more than 64 deep at character 66; correct it, as in tier == 'front' && !has(legacy)",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {order: first}",
        ": GlobalNetworkPolicy g: spec.order: must be a number, not the string \"first\"",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {tier: security}",
        ": GlobalNetworkPolicy g: spec.tier: tier \"security\" cannot be judged, only default, kube-admin and kube-baseline; move the policy into one of them",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {types: [Both]}",
        ": GlobalNetworkPolicy g: spec.types[0]: must be one of Ingress, Egress, not \"Both\"",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {serviceAccountSelector: has(a)}",
        ": GlobalNetworkPolicy g: spec.serviceAccountSelector: a selector of service accounts cannot be judged; select pods by their own labels, or by projectcalico.org/serviceaccount",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: allow}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].action: must be one of Allow, Deny, Pass, Log, not \"allow\"",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, ipVersion: 5}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].ipVersion: must be one of 4, 6, not \"5\"",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, protocol: 256}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].protocol: must be a whole number from 1 to 255, not 256",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: [a:b]}}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].destination.ports[0]: \"a:b\" is no port; write a number, a range as in 8000:8080, or the name of a port",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: ['90:80']}}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].destination.ports[0]: \"90:80\" is no port; write a number, a range as in 8000:8080, or the name of a port",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, destination: {ports: [80]}}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].destination.ports: needs the rule's protocol to be TCP, UDP or SCTP; add it",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].source.nets: holds IPv4 and IPv6 blocks in one rule, which Calico refuses; make a rule for each",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {ingress: [{action: Allow, source: {net: 10.0.0.0/8}}]}",
        ": GlobalNetworkPolicy g: spec.ingress[0].source.net: is no field of projectcalico.org/v3; check its spelling and its indentation",
    ),
    (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {egress: [{action: Deny, source: {selector: has(a)}}]}",
        ": GlobalNetworkPolicy g: spec.egress[0].source.selector: a rule that narrows the policy's own pods cannot be judged; make a policy of its own for them, with that selector",
    ),
    (
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: default.n}\nspec: {namespaceSelector: all()}",
        ": NetworkPolicy.projectcalico.org x/default.n: spec.namespaceSelector: is no field of crd.projectcalico.org/v1; check its spelling and its indentation",
    ),
    (
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: default.n}\nspec: {egress: [{action: Allow, destination: {services: {name: dns}}}]}",
        ": NetworkPolicy.projectcalico.org x/default.n: spec.egress[0].destination.services: a Service's endpoints cannot be judged; name the pods behind it by their labels",
    ),
];
