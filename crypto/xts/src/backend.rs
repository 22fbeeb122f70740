use std::fmt;

/// A way to compute AES, from the slowest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The `aes` crate: the processor's AES instructions on aarch64, a constant-time bitsliced
    /// AES where there are none.
    Portable,
    /// x86-64 with AES-NI and PCLMULQDQ: one block a register.
    AesNi,
    /// x86-64 with AVX2, VAES and VPCLMULQDQ: two blocks a register.
    Vaes256,
    /// x86-64 with AVX-512 (F, BW), VAES and VPCLMULQDQ: four blocks a register.
    Vaes512,
}

impl Backend {
    const ALL: [Backend; 4] =
        [Backend::Portable, Backend::AesNi, Backend::Vaes256, Backend::Vaes512];

    /// Lists what this processor can do, the fastest last.
    pub fn available() -> Vec<Backend> {
        Backend::ALL.into_iter().filter(|backend| backend.is_available()).collect()
    }

    /// Picks what [`AesXts::new`](crate::AesXts::new) uses.
    pub(crate) fn fastest() -> Backend {
        let fastest = Backend::ALL.into_iter().rfind(|backend| backend.is_available());
        fastest.unwrap_or(Backend::Portable)
    }

    /// Names the backend: `vaes512`, `vaes256`, `aesni` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Portable => "portable",
            Backend::AesNi => "aesni",
            Backend::Vaes256 => "vaes256",
            Backend::Vaes512 => "vaes512",
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        // Each level includes those before it, as the wider kernels end on the narrow one.
        let aesni = || has!("aes") && has!("pclmulqdq") && has!("sse2");
        let vaes256 = || aesni() && has!("avx2") && has!("vaes") && has!("vpclmulqdq");
        match self {
            Backend::Portable => true,
            Backend::AesNi => aesni(),
            Backend::Vaes256 => vaes256(),
            Backend::Vaes512 => vaes256() && has!("avx512f") && has!("avx512bw"),
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
