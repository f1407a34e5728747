#![allow(dead_code)]
mod config;
mod sys;

fn main() {}
