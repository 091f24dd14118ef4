//! What an operator copies must fit: the image, the compose file, the Kubernetes manifest, the systemd unit and
//! docs/deploy.md name the same ports, paths and user, and their configurations are good ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::Timestamp;
use serde_json::Value;

const CONFIG: &str = "/etc/loginsync/loginsync.toml";
const STATE: &str = "/var/lib/loginsync";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = repository().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The value at a JSON Pointer, which has to be there.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("nothing at `{pointer}` in {value:#}"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a string")).collect()
}

/// An element of a list of objects, by its name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {list:#}"))
}

fn of_kind(documents: &[Value], kind: &str) -> Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).clone()
}

// ---------------------------------------------------------------- what the others are compared with

/// The last stage of the Dockerfile: the argument of each instruction that stands there once.
struct Image(BTreeMap<String, String>);

impl Image {
    fn read() -> Self {
        let text = read("Dockerfile").replace("\\\n", " ");
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut last = BTreeMap::new();
        for (word, argument) in lines.filter_map(|line| line.split_once(' ')) {
            if word == "FROM" {
                last.clear();
            }
            last.insert(word.to_owned(), argument.trim().to_owned());
        }
        Self(last)
    }

    fn text(&self, word: &str) -> &str {
        self.0.get(word).unwrap_or_else(|| panic!("no {word} in the last stage of the Dockerfile"))
    }

    fn words(&self, word: &str) -> Vec<String> {
        let (_, list) = self.text(word).split_once('[').expect("a JSON list");
        serde_json::from_str(&format!("[{list}")).unwrap_or_else(|why| panic!("{word}: {why}"))
    }

    fn user(&self) -> u64 {
        let (user, group) = self.text("USER").split_once(':').expect("UID:GID");
        assert_eq!(user, group);
        user.parse().expect("a number")
    }
}

/// Every default as config/example.toml shows it.
fn example() -> toml::Table {
    read("config/example.toml").parse().expect("config/example.toml is TOML")
}

fn port(config: &toml::Table, section: &str) -> u64 {
    let address = config[section]["address"].as_str().expect("an address");
    address.rsplit_once(':').expect("a port").1.parse().expect("a port")
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap_or_else(|_| panic!("`{text}` is not in seconds"))
}

fn drain() -> u64 {
    seconds(example()["listen"]["drain_timeout"].as_str().expect("a duration"))
}

fn compose() -> Value {
    yaml("docs/deploy/compose.yaml").remove(0)
}

/// The same with three sidecars and a database.
fn compose_of_replicas() -> Value {
    yaml("docs/deploy/replicas/compose.yaml").remove(0)
}

/// What one of the Kubernetes manifests has.
struct Cluster {
    documents: Vec<Value>,
    /// What makes the pods.
    set: Value,
    pod: Value,
    sidecar: Value,
    is_shared: bool,
}

impl Cluster {
    fn read(file: &str, kind: &str) -> Self {
        let documents = yaml(file);
        let set = of_kind(&documents, kind);
        let pod = at(&set, "/spec/template/spec").clone();
        let sidecar = named(at(&pod, "/containers"), "loginsync").clone();
        Self { documents, set, pod, sidecar, is_shared: kind == "Deployment" }
    }

    fn alone() -> Self {
        Self::read("docs/deploy/kubernetes.yaml", "StatefulSet")
    }

    fn of_replicas() -> Self {
        Self::read("docs/deploy/replicas/kubernetes.yaml", "Deployment")
    }

    fn both() -> [Self; 2] {
        [Self::alone(), Self::of_replicas()]
    }

    fn config(&self) -> String {
        at(&of_kind(&self.documents, "ConfigMap"), "/data/loginsync.toml").as_str().expect("a text").to_owned()
    }
}

/// A configuration that operators are given.
struct Given {
    place: &'static str,
    text: String,
    /// Its store is a database that replicas share.
    is_shared: bool,
}

fn configurations() -> [Given; 4] {
    let of = |place, text, is_shared| Given { place, text, is_shared };
    let file = |place| of(place, read(place), place.contains("replicas"));
    [
        file("docs/deploy/etc/loginsync.toml"),
        file("docs/deploy/replicas/etc/loginsync.toml"),
        of("docs/deploy/kubernetes.yaml", Cluster::alone().config(), false),
        of("docs/deploy/replicas/kubernetes.yaml", Cluster::of_replicas().config(), true),
    ]
}

// ---------------------------------------------------------------- the image

#[test]
fn the_image_listens_where_the_defaults_are_and_is_not_root() {
    let image = Image::read();
    let ports = format!("{} {}", port(&example(), "listen"), port(&example(), "admin"));
    assert_eq!(image.text("EXPOSE"), ports);
    assert!(image.user() >= 10_000);
    assert_eq!(image.words("VOLUME"), [STATE]);
    assert_eq!(image.text("WORKDIR"), STATE);
    assert_eq!(image.words("ENTRYPOINT"), ["/usr/local/bin/loginsync"]);
    assert_eq!(image.words("CMD"), ["serve", "--config", CONFIG]);
    assert_eq!(image.words("HEALTHCHECK"), ["/usr/local/bin/loginsync", "health", "--config", CONFIG]);
}

#[test]
fn the_build_stage_has_a_rust_that_is_new_enough() {
    let dockerfile = read("Dockerfile");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:")).expect("a build stage");
    let version = image.split('-').next().expect("a version");
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml");
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().expect("rust-version");
    let minor =
        |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).expect("a version");
    assert!(minor(version) >= minor(oldest), "the image builds with {version}, Cargo.toml asks for {oldest}");
}

#[test]
fn no_secret_and_no_state_is_sent_to_the_build() {
    let ignored = read(".dockerignore");
    for pattern in [".git", "target", "**/*.db", "**/*.pem", "**/*.key"] {
        assert!(ignored.lines().any(|line| line == pattern), "`{pattern}` is not in .dockerignore");
    }
}

// ---------------------------------------------------------------- compose

#[test]
fn compose_publishes_the_proxy_and_hides_the_rest() {
    let (compose, example) = (compose(), example());
    let sidecar = at(&compose, "/services/loginsync");
    let (proxy, admin) = (port(&example, "listen"), port(&example, "admin"));
    let ports = [format!("{proxy}:{proxy}"), format!("127.0.0.1:{admin}:{admin}")];
    assert_eq!(strings(at(sidecar, "/ports")), ports, "the admin listener is for this host alone");

    let app = at(&compose, "/services/app");
    assert_eq!(app.get("ports"), None, "a published app is reached around loginsync");
    assert_eq!(strings(at(app, "/networks")), ["app"]);
    assert_eq!(at(&compose, "/networks/app/internal"), true);
    assert!(strings(at(sidecar, "/networks")).contains(&"app"));
}

#[test]
fn compose_gives_the_container_what_the_image_needs_and_no_more() {
    let compose = compose();
    let sidecar = at(&compose, "/services/loginsync");
    let mounts: Vec<_> = strings(at(sidecar, "/volumes"));
    assert_eq!(mounts, [format!("state:{STATE}"), "./etc:/etc/loginsync:ro".to_owned()]);
    assert!(compose["volumes"].as_object().is_some_and(|volumes| volumes.contains_key("state")));
    assert_eq!(sidecar["read_only"], true);
    assert_eq!(strings(&sidecar["cap_drop"]), ["ALL"]);
    assert_eq!(strings(&sidecar["security_opt"]), ["no-new-privileges:true"]);
    let declared = compose["secrets"].as_object().expect("secrets");
    assert_eq!(
        strings(&sidecar["secrets"]).into_iter().collect::<BTreeSet<_>>(),
        declared.keys().map(String::as_str).collect()
    );

    let grace = |service: &str| {
        seconds(at(&compose, &format!("/services/{service}/stop_grace_period")).as_str().expect("a text"))
    };
    assert!(grace("loginsync") > drain(), "killed while it drains");
    assert!(grace("app") > grace("loginsync"), "the app must outlive the requests under way");
}

// ---------------------------------------------------------------- Kubernetes

#[test]
fn the_pod_runs_the_image_as_it_was_built() {
    for Cluster { pod, sidecar, .. } in Cluster::both() {
        let image = Image::read();
        let named_ports: BTreeMap<_, _> = at(&sidecar, "/ports")
            .as_array()
            .expect("ports")
            .iter()
            .map(|port| (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a port")))
            .collect();
        assert_eq!(named_ports, [("admin", port(&example(), "admin")), ("http", port(&example(), "listen"))].into());
        let context = &sidecar["securityContext"];
        for (key, wanted) in [("runAsUser", image.user()), ("runAsGroup", image.user())] {
            assert_eq!(context[key], wanted, "{key}");
        }
        assert_eq!(at(&pod, "/securityContext/fsGroup"), image.user());
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(strings(at(context, "/capabilities/drop")), ["ALL"]);
        let version = at(&sidecar, "/image").as_str().and_then(|image| image.rsplit_once(':')).expect("a tag").1;
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn the_pod_mounts_the_directories_that_the_image_reads() {
    for Cluster { set, pod, sidecar, is_shared, .. } in Cluster::both() {
        let claims = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array).cloned().unwrap_or_default();
        let claimed = claims.iter().map(|claim| at(claim, "/metadata/name"));
        let volumes = at(&pod, "/volumes").as_array().expect("volumes");
        let volumes: Vec<_> = volumes.iter().map(|volume| &volume["name"]).chain(claimed).collect();
        let mounts = at(&sidecar, "/volumeMounts").as_array().expect("mounts");
        for mount in mounts {
            assert!(volumes.contains(&&mount["name"]), "no volume {}", mount["name"]);
            assert_eq!(mount.get("subPath"), None, "a subPath never changes: no reload");
        }
        let writable: Vec<_> =
            mounts.iter().filter(|mount| mount["readOnly"] != true).map(|mount| &mount["mountPath"]).collect();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/loginsync"));
        if is_shared {
            assert!(writable.is_empty() && claims.is_empty(), "a replica keeps nothing");
            assert_eq!(at(&set, "/spec/replicas"), 3);
            assert_eq!(at(&set, "/spec/strategy/rollingUpdate/maxUnavailable"), 0);
        } else {
            assert_eq!(writable, [STATE]);
            assert_eq!(at(&set, "/spec/replicas"), 1, "SQLite has one writer");
        }
    }
}

#[test]
fn the_pod_is_probed_and_drained_and_the_app_outlives_it() {
    for Cluster { pod, sidecar, .. } in Cluster::both() {
        assert_eq!(at(&sidecar, "/readinessProbe/httpGet/path"), "/readyz");
        assert_eq!(at(&sidecar, "/livenessProbe/httpGet/path"), "/healthz");
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(at(&sidecar, &format!("/{probe}/httpGet/port")), "admin");
        }
        let pause = |container: &Value| at(container, "/lifecycle/preStop/sleep/seconds").as_u64().expect("seconds");
        let app = named(at(&pod, "/containers"), "app");
        let drained = pause(&sidecar) + drain();
        assert!(pause(app) >= drained, "the app ends {} s after the order, requests may need {drained} s", pause(app));
        assert!(at(&pod, "/terminationGracePeriodSeconds").as_u64().expect("seconds") > pause(app));
    }
}

#[test]
fn the_service_and_the_policy_lead_to_the_sidecar_alone() {
    for Cluster { documents, set, pod, .. } in Cluster::both() {
        let app = named(at(&pod, "/containers"), "app");
        assert_eq!(app.get("ports"), None, "the app is for the sidecar alone");
        let service = of_kind(&documents, "Service");
        assert_eq!(at(&service, "/spec/ports/0/targetPort"), "http");
        let labels = at(&set, "/spec/template/metadata/labels").clone();
        assert_eq!(at(&service, "/spec/selector"), &labels);
        let policy = of_kind(&documents, "NetworkPolicy");
        assert_eq!(at(&policy, "/spec/podSelector/matchLabels"), &labels);
        for rule in at(&policy, "/spec/ingress").as_array().expect("rules") {
            assert!(rule.get("from").is_some(), "a rule for everyone");
            assert!(["http", "admin"].map(Value::from).contains(at(rule, "/ports/0/port")));
        }
    }
}

// ---------------------------------------------------------------- several replicas

#[test]
fn compose_runs_three_sidecars_that_nothing_goes_around() {
    let compose = compose_of_replicas();
    let service = |name: &str| at(&compose, &format!("/services/{name}")).clone();
    let (sidecar, balancer) = (service("loginsync"), service("balancer"));
    assert_eq!(at(&sidecar, "/deploy/replicas"), 3);
    for name in ["loginsync", "app", "database"] {
        assert_eq!(service(name).get("ports"), None, "`{name}` is reached around the balancer");
    }
    assert_eq!(strings(at(&balancer, "/ports")), [format!("{0}:{0}", port(&example(), "listen"))]);
    for network in ["app", "database"] {
        assert_eq!(at(&compose, &format!("/networks/{network}/internal")), true);
    }
    assert_eq!(strings(at(&service("app"), "/networks")), ["app"]);
    assert_eq!(strings(at(&service("database"), "/networks")), ["database"]);
    assert_eq!(sidecar["read_only"], true);
    assert_eq!(strings(&sidecar["cap_drop"]), ["ALL"]);
    assert_eq!(sidecar["restart"], "unless-stopped", "one that found no database is started again");
    let grace = |name: &str| seconds(service(name)["stop_grace_period"].as_str().expect("a text"));
    assert!(grace("loginsync") > drain() && grace("app") > grace("loginsync"));

    // Only the balancer's word about clients is believed, and it asks whether a sidecar is ready.
    let config: toml::Table = read("docs/deploy/replicas/etc/loginsync.toml").parse().expect("TOML");
    let address = at(&balancer, "/networks/front/ipv4_address").as_str().expect("an address");
    assert_eq!(config["listen"]["trusted_proxies"], toml::Value::from(vec![address]));
    let balancing = read("docs/deploy/replicas/haproxy.cfg");
    let servers = format!("3 loginsync:{} check port {}", port(&example(), "listen"), port(&example(), "admin"));
    assert!(balancing.contains(&servers) && balancing.contains("uri /readyz"), "{servers}");
    let url = config["store"]["url"].as_str().expect("a URL");
    let database = service("database");
    let user = at(&database, "/environment/POSTGRES_USER").as_str().expect("a user");
    let name = at(&database, "/environment/POSTGRES_DB").as_str().expect("a database");
    assert!(url.starts_with(&format!("postgres://{user}@database:5432/{name}")), "{url}");
}

/// HAProxy's own opinion, where it is installed.
#[test]
fn haproxy_accepts_the_balancer() {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let file = repository().join("docs/deploy/replicas/haproxy.cfg");
    let checked = Command::new("haproxy").env("PATH", path).arg("-c").arg("-f").arg(file).output();
    let Ok(told) = checked else { return };
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

/// The manifest is what the chart makes of its values; `BLESS=1` writes it anew. Without Helm (`go install
/// helm.sh/helm/v3/cmd/helm@v3.16.4`) the manifest alone is looked at, by the tests above.
#[test]
fn helm_accepts_the_chart_and_makes_the_manifest_of_it() {
    let chart = repository().join("docs/deploy/helm");
    let helm = |arguments: &[&str]| {
        let program = std::env::var_os("HELM").unwrap_or_else(|| "helm".into());
        let told = Command::new(program).args(arguments).arg(&chart).output().ok()?;
        let errors = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.status.success(), "helm {arguments:?}: {errors} {}", String::from_utf8_lossy(&told.stdout));
        Some(String::from_utf8(told.stdout).expect("UTF-8"))
    };
    if helm(&["lint", "--strict"]).is_none() {
        eprintln!("NOT TESTED: the chart. No helm is installed, and HELM names none");
        return;
    }
    let render =
        |more: &[&str]| helm(&[&["template", "app", "--kube-version", "1.30.0"], more].concat()).expect("helm");
    let head = "# Three replicas of an app with loginsync as its sidecar, over one PostgreSQL. See ../../deploy.md.\n\
                # It is what the chart in ../helm makes of its values.\n";
    let rendered = head.to_owned() + &render(&[]);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(repository().join("docs/deploy/replicas/kubernetes.yaml"), &rendered).expect("written");
    }
    assert_eq!(read("docs/deploy/replicas/kubernetes.yaml"), rendered, "`make fixtures` writes it anew");

    // What operators set arrives.
    let set = ["--set", "replicas=5,image.tag=9.9,secrets.name=mine,probes.liveness.periodSeconds=7"];
    let other = ["--set-string", "config=public_url = 'https://x.example'", "--set", "networkPolicy.enabled=false"];
    let rendered = render(&[set.as_slice(), other.as_slice()].concat());
    let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).expect("YAML");
    let deployment = of_kind(&documents, "Deployment");
    assert_eq!(at(&deployment, "/spec/replicas"), 5);
    let sidecar = named(at(&deployment, "/spec/template/spec/containers"), "loginsync").clone();
    assert!(at(&sidecar, "/image").as_str().expect("an image").ends_with(":9.9"));
    assert_eq!(at(&sidecar, "/livenessProbe/periodSeconds"), 7);
    let keys = named(at(&deployment, "/spec/template/spec/volumes"), "keys").clone();
    assert_eq!(at(&keys, "/secret/secretName"), "mine");
    let map = of_kind(&documents, "ConfigMap");
    assert_eq!(at(&map, "/data/loginsync.toml"), "public_url = 'https://x.example'");
    assert!(!documents.iter().any(|document| document["kind"] == "NetworkPolicy"));
}

#[test]
fn the_chart_has_the_programs_version() {
    let chart = yaml("docs/deploy/helm/Chart.yaml").remove(0);
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

// ---------------------------------------------------------------- systemd

/// The directives of a unit: section, key, values in order.
fn unit() -> BTreeMap<(String, String), Vec<String>> {
    let (mut section, mut found) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for line in read("docs/deploy/loginsync.service").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no directive"));
            found.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        }
    }
    found
}

#[test]
fn the_unit_is_confined_and_gives_the_drain_its_time() {
    let unit = unit();
    let sections: BTreeSet<_> = unit.keys().map(|(section, _)| section.as_str()).collect();
    assert_eq!(sections, ["Install", "Service", "Unit"].into());
    let service = |key: &str| {
        let values = unit.get(&("Service".to_owned(), key.to_owned())).unwrap_or_else(|| panic!("no {key}="));
        values.iter().map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(service("ExecStart"), [format!("/usr/local/bin/loginsync serve --config {CONFIG}")]);
    assert_eq!(
        service("ExecReload"),
        [format!("/usr/local/bin/loginsync check --config {CONFIG}"), "/bin/kill -HUP $MAINPID".to_owned()]
    );
    assert_eq!(service("User"), ["loginsync"]);
    assert_eq!(service("StateDirectory"), ["loginsync"]);
    assert_eq!(service("WorkingDirectory"), [STATE]);
    assert!(seconds(service("TimeoutStopSec")[0]) > drain());
    assert_eq!(service("ProtectSystem"), ["strict"]);
    assert_eq!(service("CapabilityBoundingSet"), [""]);
    for key in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "MemoryDenyWriteExecute",
        "RestrictNamespaces",
    ] {
        assert_eq!(service(key), ["yes"], "{key}");
    }
    let connections = example()["listen"]["max_connections"].as_integer().expect("a number");
    let files: i64 = service("LimitNOFILE")[0].parse().expect("a number");
    assert!(files > 2 * connections, "{files} open files do not last for {connections} connections");
}

/// systemd's own opinion, where it is installed: it knows every directive and rates the confinement.
#[test]
fn systemd_accepts_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("loginsync.service");
    // `verify` looks for the program; here it is where cargo put it.
    let text =
        read("docs/deploy/loginsync.service").replace("/usr/local/bin/loginsync", env!("CARGO_BIN_EXE_loginsync"));
    std::fs::write(&file, text).expect("written");
    for arguments in [&["verify"][..], &["security", "--offline=true", "--threshold=20", "--no-pager"]] {
        let told = Command::new("systemd-analyze").args(arguments).arg(&file).output().expect("systemd-analyze runs");
        let complaint = String::from_utf8_lossy(&told.stderr);
        let ours: Vec<_> = complaint.lines().filter(|line| line.contains("loginsync.service")).collect();
        assert!(told.status.success() && ours.is_empty(), "systemd-analyze {arguments:?}: {complaint}");
    }
}

// ---------------------------------------------------------------- the configurations

/// Loads them with keys where the containers have them, and no other file.
#[test]
fn the_configurations_have_no_fault() {
    let certificate = rcgen::generate_simple_self_signed(vec!["db.example.com".into()]).expect("a certificate");
    let authority = certificate.cert.pem().into_bytes();
    let keys = |file: &Path| match file.file_name().and_then(|name| name.to_str()) {
        Some("cookie_keys" | "cookie.keys" | "store_key" | "store.key") => {
            Ok(b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n".to_vec())
        }
        Some("audit_key" | "audit.key") => Ok(b"a key for this test only, long enough\n".to_vec()),
        Some("database_password" | "database.password") => Ok(b"a password\n".to_vec()),
        Some("database-ca.pem") => Ok(authority.clone()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    for Given { place, text, is_shared } in configurations() {
        let around = Surroundings { file: Path::new(CONFIG), read: &keys, environment: &|_| None, now: Timestamp(0) };
        let config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{place}: {faults}"));
        // Inside one host the database is reached without TLS, which the program cannot tell from a network.
        let warned = config.warnings.iter().filter(|warning| !warning.contains("without TLS")).collect::<Vec<_>>();
        assert_eq!(warned, Vec::<&String>::new(), "{place}");
        let is_plain = place == "docs/deploy/replicas/etc/loginsync.toml";
        assert_eq!(config.warnings.len(), usize::from(is_plain), "{place}: {:?}", config.warnings);
        // Replicas share the cookie key in the database.
        assert!(config.audit_key.is_some() && config.cookie_keys.is_some() != is_shared, "{place}");
    }
}

#[test]
fn the_configurations_fit_the_containers() {
    for Given { place, text, is_shared } in configurations() {
        let config: toml::Table = text.parse().unwrap_or_else(|why| panic!("{place}: {why}"));
        for section in ["listen", "admin"] {
            let address = config[section]["address"].as_str().expect("an address");
            assert_eq!(address, format!("0.0.0.0:{}", port(&example(), section)), "{place}: {section}");
        }
        let path = (!is_shared).then(|| toml::Value::from(format!("{STATE}/loginsync.db")));
        assert_eq!(config["store"].get("path"), path.as_ref(), "{place}");
        let trusted = config["listen"]["trusted_proxies"].as_array().expect("a list");
        let has_balancer = place == "docs/deploy/replicas/etc/loginsync.toml";
        assert_eq!(trusted.len(), usize::from(has_balancer), "{place} would believe a stranger's X-Forwarded-For");
    }
}

#[test]
fn the_configurations_name_the_secrets_that_are_mounted() {
    let [of_compose, of_replicas, of_kubernetes, of_cluster] = configurations().map(|given| given.text);
    for (text, compose) in [(of_compose, compose()), (of_replicas, compose_of_replicas())] {
        for name in strings(at(&compose, "/services/loginsync/secrets")) {
            assert!(text.contains(&format!("\"/run/secrets/{name}\"")), "nothing reads the secret {name}");
            let file = at(&compose, &format!("/secrets/{name}/file")).as_str().expect("a file");
            let made = format!("docs/deploy/secrets/{}", file.rsplit('/').next().expect("a name"));
            assert!(read("docs/deploy.md").contains(&made), "docs/deploy.md does not make {made}");
        }
    }
    let alone = ["cookie.keys", "audit.key"].as_slice();
    let shared = ["audit.key", "store.key", "database.password", "database-ca.pem"].as_slice();
    for (text, cluster, names) in
        [(of_kubernetes, Cluster::alone(), alone), (of_cluster, Cluster::of_replicas(), shared)]
    {
        let keys = named(at(&cluster.sidecar, "/volumeMounts"), "keys");
        let directory = keys["mountPath"].as_str().expect("a path");
        for name in names {
            assert!(text.contains(&format!("\"{directory}/{name}\"")), "nothing reads {directory}/{name}");
            let made = format!("--from-file={name}=");
            assert!(read("docs/deploy.md").contains(&made), "docs/deploy.md does not make {name}");
        }
    }
}

// ---------------------------------------------------------------- the page

#[test]
fn the_page_links_files_that_exist_and_names_the_same_places() {
    let page = read("docs/deploy.md");
    for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !target.contains("://") && !target.starts_with('#') {
            let file: PathBuf = repository().join("docs").join(target.split('#').next().unwrap_or(target));
            assert!(file.exists(), "docs/deploy.md links {target}, which is not there");
        }
    }
    let user = Image::read().user().to_string();
    for place in [CONFIG, STATE, user.as_str(), "/healthz", "/readyz", "/metrics", "docs/deploy/compose.yaml"] {
        assert!(page.contains(place), "docs/deploy.md does not name {place}");
    }
    for section in ["listen", "admin"] {
        assert!(
            page.contains(&format!(":{}", port(&example(), section))),
            "docs/deploy.md does not name the port of {section}"
        );
    }
}
