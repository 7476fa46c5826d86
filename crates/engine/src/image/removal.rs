//! Taking names and images away: what Docker's rules say goes, decided before anything does.

use std::collections::BTreeSet;

use super::{Error, Image, Index, Store, find, lock, name::Name, names_of, normalised, not_found};

/// Something that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A name, or `repository@sha256:…`.
    Untagged(String),
    /// An image's id.
    Deleted(String),
}

/// Which images are pruned.
pub struct Prune<'a> {
    /// Also those with names.
    pub is_all: bool,
    /// Names that begin with one of these stay.
    pub kept: &'a [String],
    pub fits: &'a dyn Fn(&Image) -> bool,
}

impl std::fmt::Debug for Prune<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Prune");
        shown.field("is_all", &self.is_all).field("kept", &self.kept).finish_non_exhaustive()
    }
}

struct Plan {
    id: String,
    names: Vec<String>,
    digests: Vec<String>,
    is_deleted: bool,
}

impl Store {
    /// `docker rmi`: a name goes, the last one with the image; an id goes with all its names.
    /// `force` takes an image of several repositories, and the name of one that a task runs. `used`
    /// are names and ids of images that services may start.
    pub fn remove(
        &self,
        reference: &str,
        used: &BTreeSet<String>,
        force: bool,
    ) -> Result<Vec<Gone>, Error> {
        let _one_at_a_time = lock(&self.blobs);
        let plan = plan(&self.index(), reference, force, |id| self.user(id, used), used)?;
        let gone = self.carry_out(plan)?;
        self.collect_garbage();
        Ok(gone)
    }

    /// Removes what nobody uses; returns it with its bytes.
    pub fn prune(
        &self,
        wish: &Prune<'_>,
        used: &BTreeSet<String>,
    ) -> Result<(Vec<Gone>, u64), Error> {
        let _one_at_a_time = lock(&self.blobs);
        let (mut gone, mut bytes) = (Vec::new(), 0);
        for (image, names) in self.list() {
            let is_wanted = (wish.is_all || names.is_empty()) && (wish.fits)(&image);
            let is_kept = |name: &&String| wish.kept.iter().any(|kept| name.starts_with(kept));
            if !is_wanted || self.user(&image.id, used).is_some() {
                continue;
            }
            let stay = names.iter().filter(|n| is_kept(n) || used.contains(*n));
            let stay: BTreeSet<&String> = stay.collect();
            let is_deleted = stay.is_empty();
            let digests = if is_deleted { self.digests(&image.id) } else { Vec::new() };
            if is_deleted {
                bytes += image.size;
            }
            let names = names.iter().filter(|name| !stay.contains(name)).cloned().collect();
            gone.extend(self.carry_out(Plan { id: image.id, names, digests, is_deleted })?);
        }
        self.collect_garbage();
        Ok((gone, bytes))
    }

    /// Who needs the image itself, whatever it is called.
    fn user(&self, id: &str, used: &BTreeSet<String>) -> Option<String> {
        let holds = lock(&self.holds);
        let task = holds.iter().find(|(_, held)| *held == id);
        let service = used.contains(id).then(|| "a service".to_owned());
        task.map(|(task, _)| format!("task {task}")).or(service)
    }

    fn carry_out(&self, plan: Plan) -> Result<Vec<Gone>, Error> {
        self.change(|index| {
            index.names.retain(|name, _| !plan.names.contains(name));
            index.digests.retain(|digest, _| !plan.digests.contains(digest));
            if plan.is_deleted {
                index.images.remove(&plan.id);
            }
        })?;
        let untagged = plan.names.into_iter().chain(plan.digests).map(Gone::Untagged);
        Ok(untagged.chain(plan.is_deleted.then_some(Gone::Deleted(plan.id))).collect())
    }
}

fn plan(
    index: &Index,
    reference: &str,
    force: bool,
    user: impl Fn(&str) -> Option<String>,
    used: &BTreeSet<String>,
) -> Result<Plan, Error> {
    let in_use = |by: String| Error::InUse { name: reference.to_owned(), by };
    let image = find(index, reference).ok_or_else(|| not_found(reference))?;
    let names = names_of(index, &image.id);
    let digests: Vec<String> = index
        .digests
        .iter()
        .filter(|(_, id)| **id == image.id)
        .map(|(digest, _)| digest.clone())
        .collect();
    let own = match reference.contains('@') {
        true => digests.iter().find(|digest| is_same_digest(digest, reference)).cloned(),
        false => Some(normalised(reference)).filter(|name| names.contains(name)),
    };
    if let Some(own) = own {
        if used.contains(&own) {
            return Err(in_use("a service".to_owned()));
        }
        let names_left = names.iter().any(|name| *name != own);
        let stays = names_left || (reference.contains('@') && digests.len() > 1);
        let gone = |list: &[String], is_gone: &dyn Fn(&str) -> bool| -> Vec<String> {
            list.iter().filter(|one| is_gone(one)).cloned().collect()
        };
        let user = user(&image.id).filter(|_| !stays);
        return match user {
            Some(by) if !force => Err(in_use(by)),
            user => {
                let is_deleted = !stays && user.is_none();
                // Digests are of a repository, and go with the last name that it has here.
                let orphaned = |digest: &str| {
                    let of = |known: &str| known.split('@').next() == digest.split('@').next();
                    let repository = |name: &String| repository(name).is_some_and(|r| of(&r));
                    !names.iter().any(|name| *name != own && repository(name))
                };
                let digests = match reference.contains('@') {
                    true => gone(&digests, &|digest| digest == own),
                    false => gone(&digests, &|digest| is_deleted || orphaned(digest)),
                };
                let names = gone(&names, &|name| name == own);
                Ok(Plan { id: image.id.clone(), names, digests, is_deleted })
            }
        };
    }
    let repositories: BTreeSet<String> = names.iter().filter_map(|n| repository(n)).collect();
    let by_service = names.iter().any(|name| used.contains(name));
    let by_service = by_service.then(|| "a service".to_owned());
    if let Some(by) = user(&image.id).or(by_service) {
        return Err(in_use(by));
    }
    if repositories.len() > 1 && !force {
        let id = super::hex(&image.id).chars().take(12).collect();
        return Err(Error::ManyNames { id, names: names.join(", ") });
    }
    Ok(Plan { id: image.id.clone(), names, digests, is_deleted: true })
}

fn repository(name: &str) -> Option<String> {
    Name::parse(name).ok().map(|name| name.repository())
}

fn is_same_digest(known: &str, asked: &str) -> bool {
    let pinned = |text: &str| {
        let name = Name::parse(text).ok()?;
        Some((name.repository(), name.digest))
    };
    pinned(known) == pinned(asked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index(names: &[&str], digests: &[&str]) -> Index {
        let image = json!({ "id": "sha256:abcdef", "layers": [], "size": 1, "config": {} });
        let image: Image = serde_json::from_value(image).expect("an image");
        let mut index = Index::default();
        let to =
            |list: &[&str]| list.iter().map(|one| ((*one).to_owned(), image.id.clone())).collect();
        (index.names, index.digests) = (to(names), to(digests));
        index.images.insert(image.id.clone(), image);
        index
    }

    fn removed(index: &Index, reference: &str, force: bool) -> Result<(usize, bool), Error> {
        let plan = plan(index, reference, force, |_| None, &BTreeSet::new())?;
        Ok((plan.names.len() + plan.digests.len(), plan.is_deleted))
    }

    #[test]
    fn a_name_goes_alone_and_the_last_one_takes_the_image_and_its_digests_with_it() {
        let digest = format!("r.example/a@sha256:{}", "a".repeat(64));
        let two = index(&["r.example/a:1", "b:1"], &[&digest]);
        assert_eq!(removed(&two, "b:1", false).expect("goes"), (1, false));
        assert_eq!(removed(&two, "r.example/a:1", false).expect("goes"), (2, false));
        let one = index(&["r.example/a:1"], &[&digest]);
        assert_eq!(removed(&one, "r.example/a:1", false).expect("goes"), (2, true));
        assert_eq!(removed(&one, &digest, false).expect("goes"), (1, false));
    }

    #[test]
    fn an_id_of_several_repositories_needs_force() {
        let two = index(&["a:1", "b:1"], &[]);
        assert!(matches!(removed(&two, "abcdef", false), Err(Error::ManyNames { .. })));
        assert_eq!(removed(&two, "abcdef", true).expect("goes"), (2, true));
        let tags = index(&["a:1", "a:2"], &[]);
        assert_eq!(removed(&tags, "abcdef", false).expect("goes"), (2, true));
    }

    #[test]
    fn what_a_task_runs_keeps_its_files_even_when_forced() {
        let one = index(&["a:1"], &[]);
        let task = |_: &str| Some("task x".to_owned());
        let plan = |reference, force| plan(&one, reference, force, task, &BTreeSet::new());
        assert!(matches!(plan("a:1", false), Err(Error::InUse { .. })));
        assert!(!plan("a:1", true).expect("the name goes").is_deleted);
        assert!(matches!(plan("abcdef", true), Err(Error::InUse { .. })));
    }
}
