#![allow(dead_code)]

mod config;
mod events;
mod logs;
mod sys;

fn main() {}
