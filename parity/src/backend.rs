use std::fmt;

/// A way to compute parity, from the slowest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Words of 64 bits, and what the compiler makes of several of them.
    Portable,
    /// x86-64 with SSSE3: 16 bytes a register.
    Ssse3,
    /// x86-64 with AVX2: 32 bytes a register.
    Avx2,
    /// x86-64 with AVX2 and GFNI: 32 bytes a register, one instruction a multiplication.
    Gfni256,
    /// x86-64 with AVX-512 (F, BW): 64 bytes a register.
    Avx512,
    /// x86-64 with AVX-512 (F, BW) and GFNI: 64 bytes a register, one instruction a
    /// multiplication.
    Gfni512,
}

impl Backend {
    const ALL: [Backend; 6] = [
        Backend::Portable,
        Backend::Ssse3,
        Backend::Avx2,
        Backend::Gfni256,
        Backend::Avx512,
        Backend::Gfni512,
    ];

    /// Lists what this processor can do, the fastest last.
    pub fn available() -> Vec<Backend> {
        Backend::ALL.into_iter().filter(|backend| backend.is_available()).collect()
    }

    /// Picks what the functions of this crate use.
    pub(crate) fn fastest() -> Backend {
        let fastest = Backend::ALL.into_iter().rfind(|backend| backend.is_available());
        fastest.unwrap_or(Backend::Portable)
    }

    /// Names the backend: `gfni512`, `avx512`, `gfni256`, `avx2`, `ssse3` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Portable => "portable",
            Backend::Ssse3 => "ssse3",
            Backend::Avx2 => "avx2",
            Backend::Gfni256 => "gfni256",
            Backend::Avx512 => "avx512",
            Backend::Gfni512 => "gfni512",
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Backend::Portable => true,
            Backend::Ssse3 => has!("ssse3"),
            Backend::Avx2 => has!("avx2"),
            Backend::Gfni256 => has!("avx2") && has!("gfni"),
            Backend::Avx512 => has!("avx512f") && has!("avx512bw"),
            Backend::Gfni512 => has!("avx512f") && has!("avx512bw") && has!("gfni"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_available(self) -> bool {
        self == Backend::Portable
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
