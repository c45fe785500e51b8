//! `/v1/info`: what an operator wants to know.

use axum::Json;
use axum::extract::State;
use kappa_core::cpu::{CpuInfo, cpu_info};
use kappa_core::{Info, Kappa};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Problem;

/// The database, the machine and this process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// How the database stands.
    #[schema(value_type = Object)]
    database: Info,
    /// Processors, memory and operating system.
    #[schema(value_type = Object)]
    machine: CpuInfo,
    /// This server.
    process: Process,
}

/// This server.
#[derive(Debug, Serialize, ToSchema)]
pub struct Process {
    /// Its number at the operating system.
    pid: u32,
    /// Draws of random numbers that run now.
    draws_running: usize,
    /// Draws that may run at once.
    draws_most: usize,
}

/// Reports on the server.
#[utoipa::path(get, path = "/v1/info", tag = "operations", responses((status = 200, description = "How it stands", body = Report)))]
pub async fn info(State(app): State<App>) -> Result<Json<Report>, Problem> {
    let kappa: Kappa = app.kappa.clone();
    let (database, machine) = app.blocking(move || Ok((kappa.info()?, cpu_info()))).await?;
    let process = Process { pid: std::process::id(), draws_running: app.draws.running(), draws_most: app.draws.most() };
    Ok(Json(Report { database, machine, process }))
}
