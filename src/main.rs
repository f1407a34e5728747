#![allow(dead_code)]
mod config;
mod export;
mod sys;

fn main() {}
