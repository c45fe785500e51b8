//! MANIFEST: the facts about this directory, replaced atomically, in two copies.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};

use super::bytes::Fields;
use super::failure::{damaged, file_failed};
use super::record::{ChainHash, DatabaseId, Position};
use crate::engine::Sequence;
use crate::env::files::{Files, OpenMode};
use crate::error::{Error, ErrorKind, Result};

/// The name of the file.
pub const MANIFEST: &str = "MANIFEST";
/// What is being written, before it takes that name.
pub const MANIFEST_NEXT: &str = "MANIFEST.next";
/// The version of every file this build writes.
pub const FORMAT_VERSION: u16 = 1;
/// One copy.
const COPY_BYTES: usize = 4_096;
const MAGIC: [u8; 4] = *b"KMAN";
const MAX_NAME_BYTES: usize = 255;

/// How many keys a view holds, and the sum of their hashes: two views that agree hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Digest {
    /// Live keys.
    pub count: u64,
    /// The wrapping sum of a keyed hash of each key and its sequence.
    pub sum: u128,
}

/// What the view's own store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checkpoint {
    /// Nothing that can be relied on: it is rebuilt from base and tail.
    #[default]
    None,
    /// Every operation up to this one and none behind it.
    At {
        /// The newest operation it holds.
        sequence: Sequence,
        /// What its content must add up to.
        digest: Digest,
    },
    /// Every operation up to `from`, and some writes of those up to `to`.
    Draining {
        /// Where the drain ends.
        to: Sequence,
        /// Where it began.
        from: Sequence,
        /// What the content must add up to when it has ended.
        digest: Digest,
    },
}

impl Checkpoint {
    /// The view needs every record behind this one to catch up; none when it starts from the base.
    pub fn needs_after(&self) -> Option<Sequence> {
        match self {
            Self::None => None,
            Self::At { sequence, .. } => Some(*sequence),
            Self::Draining { from, .. } => Some(*from),
        }
    }
}

/// The base that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseName {
    /// The number in its file name.
    pub number: u64,
    /// The newest operation folded into it.
    pub sequence: Sequence,
    /// The chain hash there.
    pub hash: ChainHash,
}

/// The end of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct End {
    /// The first byte behind the last record.
    pub position: Position,
    /// The last record.
    pub sequence: Sequence,
    /// Its hash.
    pub hash: ChainHash,
    /// Its engine time.
    pub time: i64,
}

/// Who a log belongs to; fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The database.
    pub database: DatabaseId,
    /// The node that holds this copy.
    pub node: u64,
    /// Which partition.
    pub partition: u32,
    /// Of how many.
    pub partitions: u32,
}

/// The facts about one log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Raised by each write of MANIFEST.
    pub generation: u64,
    /// Whose log this is.
    pub identity: Identity,
    /// The highest epoch that may have been used: durable before the first record of the epoch.
    pub epoch: u64,
    /// The oldest segment that is kept.
    pub first_segment: u64,
    /// The newest segment that was made; it may still be unused.
    pub last_segment: u64,
    /// A record known durable when this was written: a log that ends before it is damaged.
    pub durable: Sequence,
    /// The highest gateway generation seen: messages with a lower one are refused.
    pub gateway: u64,
    /// The highest configuration version seen: messages with a lower one are refused.
    pub configuration: u64,
    /// The base in force, none before the first merge.
    pub base: Option<BaseName>,
    /// The name of the view's directory.
    pub view: Option<String>,
    /// What the view's store holds.
    pub checkpoint: Checkpoint,
    /// Where the log ended when it was closed; none while it is in use or after a crash.
    pub closed: Option<End>,
}

impl Manifest {
    /// The manifest of a log that holds nothing.
    pub fn new(identity: Identity) -> Self {
        Self {
            generation: 0,
            identity,
            epoch: 0,
            first_segment: 1,
            last_segment: 0,
            durable: 0,
            gateway: 0,
            configuration: 0,
            base: None,
            view: None,
            checkpoint: Checkpoint::None,
            closed: None,
        }
    }

    /// The bytes of the file: two copies.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let name = self.view.as_deref().unwrap_or("");
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::invalid("the name of a view directory is at most 255 bytes").with("bytes", name.len()));
        }
        let mut copy = Vec::with_capacity(2 * COPY_BYTES);
        copy.put_slice(&MAGIC);
        copy.put_u16(FORMAT_VERSION);
        copy.put_u16(0);
        copy.put_u64(self.generation);
        copy.put_slice(&self.identity.database);
        copy.put_u64(self.identity.node);
        copy.put_u32(self.identity.partition);
        copy.put_u32(self.identity.partitions);
        copy.put_u64(self.epoch);
        copy.put_u64(self.first_segment);
        copy.put_u64(self.last_segment);
        copy.put_u64(self.durable);
        copy.put_u64(self.gateway);
        copy.put_u64(self.configuration);
        let base = self.base.unwrap_or(BaseName { number: 0, sequence: 0, hash: 0 });
        copy.put_u64(base.number);
        copy.put_u64(base.sequence);
        copy.put_u128(base.hash);
        let (state, to, from, digest) = match self.checkpoint {
            Checkpoint::None => (0, 0, 0, Digest::default()),
            Checkpoint::At { sequence, digest } => (1, sequence, sequence, digest),
            Checkpoint::Draining { to, from, digest } => (2, to, from, digest),
        };
        copy.put_u8(state);
        copy.put_u8(u8::from(self.closed.is_some()));
        copy.put_u16(u16::try_from(name.len()).expect("the length was checked"));
        copy.put_u64(to);
        copy.put_u64(from);
        copy.put_u64(digest.count);
        copy.put_u128(digest.sum);
        let end = self.closed.unwrap_or_default();
        copy.put_u64(end.position.segment);
        copy.put_u32(end.position.offset);
        copy.put_u64(end.sequence);
        copy.put_u128(end.hash);
        copy.put_i64(end.time);
        copy.put_slice(name.as_bytes());
        copy.resize(COPY_BYTES - 4, 0);
        copy.put_u32(crc32c::crc32c(&copy));
        copy.extend_from_within(..);
        Ok(copy)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let (content, checksum) = copy.split_at(COPY_BYTES - 4);
        if crc32c::crc32c(content).to_be_bytes() != checksum {
            return None;
        }
        let mut fields = Fields::new(Bytes::copy_from_slice(content));
        fields.bytes(8)?;
        let generation = fields.u64()?;
        let identity = Identity {
            database: fields.id()?,
            node: fields.u64()?,
            partition: fields.u32()?,
            partitions: fields.u32()?,
        };
        let (epoch, first_segment, last_segment) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (durable, gateway, configuration) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let base = BaseName { number: fields.u64()?, sequence: fields.u64()?, hash: fields.u128()? };
        let (state, closed, name_length) = (fields.u8()?, fields.u8()? == 1, usize::from(fields.u16()?));
        let (to, from) = (fields.u64()?, fields.u64()?);
        let digest = Digest { count: fields.u64()?, sum: fields.u128()? };
        let end = End {
            position: Position { segment: fields.u64()?, offset: fields.u32()? },
            sequence: fields.u64()?,
            hash: fields.u128()?,
            time: fields.i64()?,
        };
        let name = String::from_utf8(fields.bytes(name_length)?.to_vec()).ok()?;
        let checkpoint = match state {
            0 => Checkpoint::None,
            1 => Checkpoint::At { sequence: to, digest },
            2 => Checkpoint::Draining { to, from, digest },
            _ => return None,
        };
        Some(Self {
            generation,
            identity,
            epoch,
            first_segment,
            last_segment,
            durable,
            gateway,
            configuration,
            base: (base.number > 0).then_some(base),
            view: (!name.is_empty()).then_some(name),
            checkpoint,
            closed: closed.then_some(end),
        })
    }

    /// Reads the file of `dir`. Also answers whether one of the two copies was damaged; it is repaired by the
    /// next write. `NotFound` when there is no such file.
    pub fn read(files: &dyn Files, dir: &Path) -> Result<(Self, bool)> {
        let path = dir.join(MANIFEST);
        let file = files.open(&path, OpenMode::Existing).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, "no log here").with("directory", dir.display())
            }
            _ => file_failed("log.open", &path, error),
        })?;
        let mut content = vec![0; 2 * COPY_BYTES];
        let present = file.len().map_err(|error| file_failed("log.open", &path, error))?.min(content.len() as u64);
        let present = usize::try_from(present).expect("the minimum of two small lengths");
        file.read_at(&mut content[..present], 0).map_err(|error| file_failed("log.open", &path, error))?;
        for copy in content.chunks(COPY_BYTES) {
            let version = u16::from_be_bytes([copy[4], copy[5]]);
            let whole = crc32c::crc32c(&copy[..COPY_BYTES - 4]).to_be_bytes() == copy[COPY_BYTES - 4..];
            if whole && copy[..4] == MAGIC && version != FORMAT_VERSION {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this directory was written by another format version; use a build that reads it",
                )
                .with("found", version)
                .with("supported", FORMAT_VERSION));
            }
        }
        let copies: Vec<_> = content.chunks(COPY_BYTES).map(Self::decode_copy).collect();
        match (&copies[0], &copies[1]) {
            (Some(first), Some(second)) if first == second => Ok((first.clone(), false)),
            (Some(copy), None) | (None, Some(copy)) => Ok((copy.clone(), true)),
            (Some(_), Some(_)) => Err(damaged(&path, 0, "the two copies of MANIFEST differ")),
            (None, None) => Err(damaged(&path, 0, "both copies of MANIFEST are damaged")),
        }
    }
}

/// How far a write of MANIFEST got before it failed.
#[derive(Debug)]
pub enum WriteFailure {
    /// The old MANIFEST is still in force.
    Before(Error),
    /// Old and new are both possible after a crash, so nothing may be done that either forbids.
    Unknown(Error),
}

impl WriteFailure {
    /// The failure itself.
    pub fn into_error(self) -> Error {
        match self {
            Self::Before(error) | Self::Unknown(error) => error,
        }
    }
}

/// Replaces the file: aside, synced, renamed, directory synced.
pub fn write(files: &dyn Files, dir: &Path, manifest: &Manifest) -> Result<(), WriteFailure> {
    let path: PathBuf = dir.join(MANIFEST_NEXT);
    let content = manifest.encode().map_err(WriteFailure::Before)?;
    let failed = |error| file_failed("log.manifest", &path, error);
    let before = |error| WriteFailure::Before(failed(error));
    let unknown = |error| WriteFailure::Unknown(failed(error));
    #[cfg(test)]
    if super::planted::is(super::Planted::OverwriteManifest)
        && files.exists(&dir.join(MANIFEST)).is_ok_and(|exists| exists)
    {
        let file = files.open(&dir.join(MANIFEST), OpenMode::Existing).map_err(before)?;
        file.write_at(&content, 0).map_err(before)?;
        return file.sync_data().map_err(unknown);
    }
    if files.exists(&path).map_err(before)? {
        files.remove_file(&path).map_err(before)?;
    }
    let file = files.open(&path, OpenMode::CreateNew).map_err(before)?;
    file.write_at(&content, 0).map_err(before)?;
    file.sync_all().map_err(before)?;
    files.rename(&path, &dir.join(MANIFEST)).map_err(unknown)?;
    #[cfg(test)]
    if super::planted::is(super::Planted::SkipDirectorySync) {
        return Ok(());
    }
    files.sync_dir(dir).map_err(unknown)
}
