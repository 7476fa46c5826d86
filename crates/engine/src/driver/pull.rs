//! An image that is not here is pulled before its task is prepared, as Swarm's agent does.

use dockerapi::spec::Definition;
use tokio::sync::mpsc;

use super::{Command, Launch, process::Shared};
use crate::{
    image::{self, name::Name},
    registry::{Credential, Error, Teller},
};

/// How it went.
pub(super) enum Outcome {
    Here,
    /// For people.
    Failed(String),
    /// The task is not wanted any more.
    Unwanted,
}

/// Pulls the task's image when it is missing; stops as soon as the task is not wanted any more.
pub(super) async fn unless_unwanted(
    shared: &Shared,
    launch: &Launch,
    commands: &mut mpsc::Receiver<Command>,
) -> Outcome {
    let definition: Definition = serde_json::from_str(&launch.definition).unwrap_or_default();
    let name = definition.task_template.container_spec.unwrap_or_default().image;
    let missing = match shared.images.get(&name) {
        Ok(_) => return Outcome::Here,
        Err(error @ image::Error::NotFound(_)) => error.to_string(),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let mut pulling = std::pin::pin!(pull(shared, &name, &launch.registry_auth));
    loop {
        tokio::select! {
            pulled = &mut pulling => return match pulled {
                Ok(()) => Outcome::Here,
                Err(error) => Outcome::Failed(format!("{missing}: {error}")),
            },
            command = commands.recv() => match command {
                None | Some(Command::Stop(_) | Command::Forget(_)) => return Outcome::Unwanted,
                // Nothing runs that could be told.
                Some(Command::Signal(..) | Command::Prepare(_)) => {}
                Some(Command::Start(_) | Command::Run(_) | Command::Adopt(_)) => {}
            },
        }
    }
}

async fn pull(shared: &Shared, name: &str, credential: &Credential) -> Result<(), Error> {
    shared.registry.pull(&Name::parse(name)?, credential, &Teller::default()).await?;
    Ok(())
}
