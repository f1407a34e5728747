#![allow(dead_code)]

mod config;
mod logs;
mod sys;

fn main() {}
