mod config;
mod sys;

fn main() {}
