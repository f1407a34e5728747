#![allow(dead_code)]

mod commands;
mod config;
mod events;
mod logs;
mod sys;

fn main() {}
