//! The scalar types of PTX.

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    Bf16,
    B32,
    U32,
    S32,
    F32,
    F16x2,
    Bf16x2,
    Tf32,
    B64,
    U64,
    S64,
    F64,
}

impl Type {
    /// The type that a suffix such as `u32` names.
    pub fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "u8" => Type::U8,
            "s8" => Type::S8,
            "b16" => Type::B16,
            "u16" => Type::U16,
            "s16" => Type::S16,
            "f16" => Type::F16,
            "bf16" => Type::Bf16,
            "b32" => Type::B32,
            "u32" => Type::U32,
            "s32" => Type::S32,
            "f32" => Type::F32,
            "f16x2" => Type::F16x2,
            "bf16x2" => Type::Bf16x2,
            "tf32" => Type::Tf32,
            "b64" => Type::B64,
            "u64" => Type::U64,
            "s64" => Type::S64,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes in memory; a predicate has none.
    pub fn size(self) -> usize {
        match self {
            Type::Pred => 0,
            Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            _ => 4,
        }
    }

    /// Whether a value fills two register slots.
    pub fn is_wide(self) -> bool {
        self.size() == 8
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | Bf16 | F32 | F64 | F16x2 | Bf16x2 | Tf32)
    }

    /// The 16-bit floating formats, single or packed in pairs.
    pub fn is_half(self) -> bool {
        matches!(self, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2)
    }
}
