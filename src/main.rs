#![allow(dead_code)]
mod act;
mod commands;
mod config;
mod environment;
mod events;
mod family;
mod health;
mod logs;
mod observe;
mod plan;
mod reactor;
mod report;
mod state;
mod sys;

fn main() {}
