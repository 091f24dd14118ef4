mod fixtures;
mod layers;
mod plan_laws;
mod proxy;
mod store_suite;
mod support;
