//! Stage scripts for bash and sh.
