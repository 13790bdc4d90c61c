//! `try_put_*`: what [`BufMut`] writes and panics for want of room, with an error instead. Reading has `try_get_*` in [`Buf`](bytes::Buf).

use bytes::{Buf, BufMut};

use super::{CapacityError, DirectBytesMut};

macro_rules! try_put {
    ($($number:ident: $be:ident $le:ident $ne:ident, $put_be:ident $put_le:ident $put_ne:ident;)+) => {$(
        #[doc = concat!("Appends an `", stringify!($number), "`, most significant byte first.")]
        ///
        /// # Errors
        ///
        /// [`CapacityError`] where it does not fit; nothing is written then.
        #[inline]
        pub fn $be(&mut self, n: $number) -> Result<(), CapacityError> {
            self.room(size_of::<$number>())?;
            self.$put_be(n);
            Ok(())
        }

        #[doc = concat!("Appends an `", stringify!($number), "`, least significant byte first.")]
        ///
        /// # Errors
        ///
        /// [`CapacityError`] where it does not fit; nothing is written then.
        #[inline]
        pub fn $le(&mut self, n: $number) -> Result<(), CapacityError> {
            self.room(size_of::<$number>())?;
            self.$put_le(n);
            Ok(())
        }

        #[doc = concat!("Appends an `", stringify!($number), "` in the byte order of this machine.")]
        ///
        /// # Errors
        ///
        /// [`CapacityError`] where it does not fit; nothing is written then.
        #[inline]
        pub fn $ne(&mut self, n: $number) -> Result<(), CapacityError> {
            self.room(size_of::<$number>())?;
            self.$put_ne(n);
            Ok(())
        }
    )+};
}

macro_rules! try_put_low {
    ($($name:ident $number:ident $put:ident $order:literal;)+) => {$(
        #[doc = concat!("Appends the low `nbytes` bytes of `n`, ", $order, ".")]
        ///
        /// # Errors
        ///
        /// [`CapacityError`] where they do not fit; nothing is written then.
        ///
        /// # Panics
        ///
        /// If `nbytes` is above 8, as [`BufMut`]'s method does.
        #[inline]
        pub fn $name(&mut self, n: $number, nbytes: usize) -> Result<(), CapacityError> {
            self.room(nbytes.min(size_of::<$number>()))?;
            self.$put(n, nbytes);
            Ok(())
        }
    )+};
}

/// Writing with errors in place of panics; each as the method of [`BufMut`] without `try_`.
impl DirectBytesMut {
    #[inline]
    fn room(&self, requested: usize) -> Result<(), CapacityError> {
        let available = self.remaining_mut();
        if requested > available {
            return Err(CapacityError {
                requested,
                available,
            });
        }
        Ok(())
    }

    /// Appends all of `src`, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where it does not fit; nothing is written then, and nothing taken from `src`.
    pub fn try_put(&mut self, src: &mut impl Buf) -> Result<(), CapacityError> {
        self.room(src.remaining())?;
        self.put(src);
        Ok(())
    }

    /// Appends `cnt` copies of `val`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where they do not fit; nothing is written then.
    pub fn try_put_bytes(&mut self, val: u8, cnt: usize) -> Result<(), CapacityError> {
        self.room(cnt)?;
        let spare = self.spare_capacity_mut();
        // SAFETY: there is room for `cnt` bytes, as just checked, and then they are written.
        unsafe {
            std::ptr::write_bytes(spare.as_mut_ptr(), val, cnt);
            self.advance_mut(cnt);
        }
        Ok(())
    }

    /// Appends a byte.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where it does not fit.
    #[inline]
    pub fn try_put_u8(&mut self, n: u8) -> Result<(), CapacityError> {
        self.room(1)?;
        self.put_u8(n);
        Ok(())
    }

    /// Appends a signed byte.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where it does not fit.
    #[inline]
    pub fn try_put_i8(&mut self, n: i8) -> Result<(), CapacityError> {
        self.room(1)?;
        self.put_i8(n);
        Ok(())
    }

    try_put! {
        u16: try_put_u16 try_put_u16_le try_put_u16_ne, put_u16 put_u16_le put_u16_ne;
        i16: try_put_i16 try_put_i16_le try_put_i16_ne, put_i16 put_i16_le put_i16_ne;
        u32: try_put_u32 try_put_u32_le try_put_u32_ne, put_u32 put_u32_le put_u32_ne;
        i32: try_put_i32 try_put_i32_le try_put_i32_ne, put_i32 put_i32_le put_i32_ne;
        u64: try_put_u64 try_put_u64_le try_put_u64_ne, put_u64 put_u64_le put_u64_ne;
        i64: try_put_i64 try_put_i64_le try_put_i64_ne, put_i64 put_i64_le put_i64_ne;
        u128: try_put_u128 try_put_u128_le try_put_u128_ne, put_u128 put_u128_le put_u128_ne;
        i128: try_put_i128 try_put_i128_le try_put_i128_ne, put_i128 put_i128_le put_i128_ne;
        f32: try_put_f32 try_put_f32_le try_put_f32_ne, put_f32 put_f32_le put_f32_ne;
        f64: try_put_f64 try_put_f64_le try_put_f64_ne, put_f64 put_f64_le put_f64_ne;
    }

    try_put_low! {
        try_put_uint u64 put_uint "most significant byte first";
        try_put_uint_le u64 put_uint_le "least significant byte first";
        try_put_uint_ne u64 put_uint_ne "in the byte order of this machine";
        try_put_int i64 put_int "most significant byte first";
        try_put_int_le i64 put_int_le "least significant byte first";
        try_put_int_ne i64 put_int_ne "in the byte order of this machine";
    }
}
