//! Random rules, as an operator would write them, and random changes of them.

/// A source of chance that says the same for the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x5bf0_3635))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap()]
    }
}

pub const VALUES: [&str; 6] = ["staff", "sales", "duty", "admins", "guests", "leave"];
const GROUPS: [&str; 5] = ["Staff", "Sales", "Duty", "Admins", "Guests"];
const ROLES: [&str; 3] = ["reader", "editor", "admin"];

pub const PROVIDERS: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[store]
path = "store.db"

[[provider]]
name = "okta"
mode = "oidc-form-post"
binding = "observe"
issuer = "https://okta.example/"
client_id = "the-app"
callback = "/okta"
namespace = "people"
user_claim = "uid"
jwks_file = "fixtures/tokens/jwks.json"
authorization_endpoint = "https://okta.example/authorize"

[provider.claims.groups]

[provider.claims.team]

[[provider]]
name = "entra"
mode = "oidc-form-post"
binding = "observe"
issuer = "https://entra.example/"
client_id = "the-app"
callback = "/entra"
namespace = "people"
user_claim = "uid"
jwks_file = "fixtures/tokens/jwks.json"
authorization_endpoint = "https://entra.example/authorize"

[provider.claims.groups]

[provider.claims.team]
"#;

/// What a configuration decides by.
#[derive(Clone)]
pub struct Rules {
    /// Each with its name, its roles, and further lines.
    groups: Vec<(&'static str, Vec<&'static str>, String)>,
    mappings: Vec<(String, String)>,
    gates: Vec<String>,
    sync: &'static str,
    brake: String,
}

impl Rules {
    pub fn random(dice: &mut Dice) -> Self {
        let groups = GROUPS.into_iter().map(|name| (name, roles(dice), marks(dice)));
        let groups = groups.collect();
        let mappings = (0..2 + dice.below(8)).map(|number| (format!("m{number}"), mapping(dice))).collect();
        let gates = if dice.chance(25) { vec![gate(dice)] } else { Vec::new() };
        let share = dice.below(100);
        let brake = format!("window = \"1h\"\nminimum = {}\nshare = \"{share}%\"", 1 + dice.below(6));
        Self { groups, mappings, gates, sync: "next_login", brake }
    }

    /// The same after an operator was at it.
    pub fn changed(&self, dice: &mut Dice) -> Self {
        let mut new = self.clone();
        new.mappings.retain(|_| !dice.chance(15));
        for (_, lines) in &mut new.mappings {
            match dice.below(10) {
                0 => *lines = mapping(dice),
                1 => lines.push_str("enabled = false\n"),
                _ => {}
            }
        }
        for number in 0..dice.below(3) {
            new.mappings.push((format!("n{number}"), mapping(dice)));
        }
        for (_, roles, _) in &mut new.groups {
            if dice.chance(15) {
                *roles = self::roles(dice);
            }
        }
        if dice.chance(20) {
            new.gates = if new.gates.is_empty() { vec![gate(dice)] } else { Vec::new() };
        }
        if dice.chance(10) {
            new.sync = "now";
        }
        new
    }

    /// What an edited mapping does, it does without a login.
    pub fn applies_now(&self) -> bool {
        self.sync == "now"
    }

    pub fn asks_for_roles(&self) -> bool {
        self.mappings.iter().any(|(_, lines)| lines.contains("s_role"))
    }

    /// Whether a group carries a role.
    pub fn carries(&self, group: &str, role: &str) -> bool {
        self.groups.iter().any(|(name, roles, _)| *name == group && roles.contains(&role))
    }

    pub fn text(&self) -> String {
        let mut text = PROVIDERS.to_owned();
        for role in ROLES {
            text.push_str(&format!("\n[[role]]\nname = \"{role}\"\n"));
        }
        for (name, roles, marks) in &self.groups {
            text.push_str(&format!("\n[[group]]\nname = \"{name}\"\nroles = {roles:?}\n{marks}"));
        }
        for (name, lines) in &self.mappings {
            text.push_str(&format!("\n[[mapping]]\nname = \"{name}\"\n{lines}"));
        }
        for lines in &self.gates {
            text.push_str(&format!("\n[[gate]]\nname = \"gate\"\n{lines}"));
        }
        text.push_str(&format!("\n[sync]\napply = \"{}\"\n\n[brake]\n{}\n", self.sync, self.brake));
        text
    }
}

fn roles(dice: &mut Dice) -> Vec<&'static str> {
    ROLES.into_iter().filter(|_| dice.chance(30)).collect()
}

fn marks(dice: &mut Dice) -> String {
    let mut marks = String::new();
    if dice.chance(15) {
        marks.push_str("protected = true\n");
    }
    if dice.chance(25) {
        marks.push_str("brake = false\n");
    }
    marks
}

fn condition(dice: &mut Dice) -> String {
    let (claim, value) = (dice.of(&["groups", "team"]), dice.of(&VALUES));
    match dice.below(9) {
        0 => format!("{{ has_role = \"{}\" }}", dice.of(&ROLES)),
        1 => format!("{{ lacks_role = \"{}\" }}", dice.of(&ROLES)),
        2 => format!("{{ claim = \"{claim}\", is_not = \"{value}\" }}"),
        3 => format!("{{ claim = \"{claim}\", present = true }}"),
        4 => format!("{{ claim = \"{claim}\", begins_with = \"{}\" }}", &value[..1]),
        _ => format!("{{ claim = \"{claim}\", is = \"{value}\" }}"),
    }
}

fn conditions(dice: &mut Dice) -> String {
    let all: Vec<String> = (0..1 + dice.below(2)).map(|_| condition(dice)).collect();
    format!("[{}]", all.join(", "))
}

fn mapping(dice: &mut Dice) -> String {
    let mut lines = String::new();
    if dice.chance(70) {
        lines.push_str(&format!("provider = \"{}\"\n", dice.of(&["okta", "okta", "entra"])));
    }
    match dice.below(10) {
        0 => lines.push_str("always = true\n"),
        1..=5 => lines.push_str(&format!("when = [{{ claim = \"groups\", is = \"{}\" }}]\n", dice.of(&VALUES))),
        _ => {
            lines.push_str(&format!("match = \"{}\"\nwhen = {}\n", dice.of(&["all", "any"]), conditions(dice)));
        }
    }
    match dice.below(3) {
        0 => lines.push_str(&format!("role = \"{}\"\n", dice.of(&ROLES))),
        _ => lines.push_str(&format!("group = \"{}\"\n", dice.of(&GROUPS))),
    }
    lines
}

fn gate(dice: &mut Dice) -> String {
    match dice.below(2) {
        0 => String::from("require = \"any\"\n"),
        _ => format!("deny = [{{ claim = \"{}\", is = \"{}\" }}]\n", dice.of(&["groups", "team"]), dice.of(&VALUES)),
    }
}
