//! The stack both readers work on: the objects that are not yet in a container, and what is known about those that are
//! containers themselves.
//!
//! A container's nesting and hashability are kept here beside it, so that neither is ever found out by walking an object,
//! and no object model has to care. Scalars have neither, and cost nothing.

use super::build::Build;
use super::decode::DecodeErrorKind;
use crate::limits::{ELEMENT_PREALLOCATION, MAX_NESTING};

pub(super) struct Stack<'b, 'p, B: Build<'p>> {
    pub(super) builder: &'b mut B,
    objects: Vec<B::Object>,
    /// Those of `objects` that are containers, in their order.
    containers: Vec<Container>,
}

#[derive(Clone, Copy)]
struct Container {
    index: usize,
    kind: Kind,
    /// Levels of containers, its own included.
    depth: usize,
    hashable: bool,
}

/// The kinds of containers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tuple,
    List,
    Dict,
    Set,
    FrozenSet,
}

impl<'b, 'p, B: Build<'p>> Stack<'b, 'p, B> {
    /// A stack for a payload of that length.
    pub(super) fn new(builder: &'b mut B, payload: usize) -> Self {
        // Every object takes a byte of the payload at least.
        let mut objects = builder.take_stack();
        objects.reserve(payload.min(ELEMENT_PREALLOCATION));
        Self { builder, objects, containers: Vec::new() }
    }

    /// Makes room for that many objects more.
    pub(super) fn reserve(&mut self, count: usize) {
        self.objects.reserve(count);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    #[inline]
    pub(super) fn push(&mut self, object: B::Object) {
        self.objects.push(object);
    }

    /// Makes a container of the objects from `base` on, and puts it in their place.
    pub(super) fn collect(&mut self, kind: Kind, base: usize) -> Result<(), DecodeErrorKind> {
        let (depth, hashable) = self.contents(kind, base)?;
        let contents = self.objects.drain(base..);
        let object = match kind {
            Kind::Tuple => self.builder.tuple(contents),
            Kind::List => self.builder.list(contents),
            Kind::Dict => self.builder.dict(contents),
            Kind::Set => self.builder.set(contents),
            Kind::FrozenSet => self.builder.frozen_set(contents),
        }?;
        self.objects.push(object);
        let hashable = match kind {
            Kind::Tuple => hashable,
            Kind::FrozenSet => true,
            Kind::List | Kind::Dict | Kind::Set => false,
        };
        self.containers.push(Container { index: base, kind, depth: depth + 1, hashable });
        Ok(())
    }

    /// Adds the objects from `base` on to the container below them, which must be of that kind.
    pub(super) fn extend(&mut self, kind: Kind, base: usize) -> Result<(), DecodeErrorKind> {
        let index = self.grow(kind, base)?;
        let mut object = self.objects.remove(index);
        let mut contents = self.objects.drain(index..);
        match kind {
            Kind::List => contents.try_for_each(|item| self.builder.append(&mut object, item))?,
            Kind::Set => contents.try_for_each(|item| self.builder.add(&mut object, item))?,
            Kind::Dict => {
                while let (Some(key), Some(value)) = (contents.next(), contents.next()) {
                    self.builder.insert(&mut object, key, value)?;
                }
            }
            // No opcode adds to these; what was on the stack for them is gone.
            Kind::Tuple | Kind::FrozenSet => {}
        }
        drop(contents);
        self.objects.push(object);
        Ok(())
    }

    /// Adds a key and a value, the only objects from `base` on, to the dict below them.
    #[inline]
    pub(super) fn insert(&mut self, base: usize) -> Result<(), DecodeErrorKind> {
        self.grow(Kind::Dict, base)?;
        if let (Some(value), Some(key)) = (self.objects.pop(), self.objects.pop())
            && let Some(dict) = self.objects.last_mut()
        {
            self.builder.insert(dict, key, value)?;
        }
        Ok(())
    }

    /// Makes the objects from `base` on contents of the container below them, as far as nesting goes. Says where the container is.
    #[inline]
    fn grow(&mut self, kind: Kind, base: usize) -> Result<usize, DecodeErrorKind> {
        let (depth, _) = self.contents(kind, base)?;
        match self.containers.last_mut() {
            Some(container) if container.index + 1 == base && container.kind == kind => {
                container.depth = container.depth.max(depth + 1);
                Ok(container.index)
            }
            _ => Err(DecodeErrorKind::Malformed("an element for something that is no such container")),
        }
    }

    /// Makes a container of the objects from `base` on but the topmost, which is a container itself, and puts it below that.
    pub(super) fn slip_under(&mut self, kind: Kind, base: usize) -> Result<(), DecodeErrorKind> {
        if let (Some(object), Some(container)) = (self.objects.pop(), self.containers.pop()) {
            self.collect(kind, base)?;
            self.containers.push(Container { index: self.len(), ..container });
            self.objects.push(object);
        }
        Ok(())
    }

    /// The one object that is left.
    pub(super) fn finish(&mut self) -> Result<B::Object, DecodeErrorKind> {
        match (self.objects.pop(), self.objects.is_empty()) {
            (Some(object), true) => {
                self.builder.keep_stack(std::mem::take(&mut self.objects));
                Ok(object)
            }
            (None, _) => Err(DecodeErrorKind::Malformed("the data ends without an object")),
            (Some(_), false) => Err(DecodeErrorKind::Malformed("the data ends with more than one object")),
        }
    }

    /// Forgets the containers from `base` on, which are to go into one of that kind. Says how deeply they are nested, and
    /// whether all are hashable.
    #[inline]
    fn contents(&mut self, kind: Kind, base: usize) -> Result<(usize, bool), DecodeErrorKind> {
        if kind == Kind::Dict && !(self.len() - base).is_multiple_of(2) {
            return Err(DecodeErrorKind::Malformed("a key without a value"));
        }
        let (mut depth, mut hashable) = (0, true);
        while let Some(container) = self.containers.pop_if(|container| container.index >= base) {
            let must_hash = match kind {
                Kind::Tuple | Kind::List => false,
                Kind::Dict => (container.index - base).is_multiple_of(2),
                Kind::Set | Kind::FrozenSet => true,
            };
            if must_hash && !container.hashable {
                return Err(DecodeErrorKind::Unhashable(container.kind.name()));
            }
            depth = depth.max(container.depth);
            hashable &= container.hashable;
        }
        if depth >= MAX_NESTING { Err(DecodeErrorKind::TooDeep) } else { Ok((depth, hashable)) }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            // Only a tuple with something unhashable in it gets here.
            Self::Tuple => "tuple with unhashable elements",
            Self::List => "list",
            Self::Dict => "dict",
            Self::Set => "set",
            Self::FrozenSet => "frozenset",
        }
    }
}
