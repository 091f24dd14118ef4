mod fixtures;
mod layers;
mod plan_laws;
mod store_suite;
