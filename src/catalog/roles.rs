//! Whether a role can be the one that a worker connects as.

use super::*;
use crate::error::Failure;

/// Why no worker can connect to this database as a role; none where one can.
pub fn unfit(role: Oid) -> Result<Option<Failure>> {
    let found = one(
        "SELECT rolname::text, rolcanlogin, \
             pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CONNECT'), pg_catalog.current_database()::text \
         FROM pg_catalog.pg_roles WHERE oid = $1",
        &[role.into()],
        |row| {
            Ok((
                present(row.get::<String>(1)?, "rolname")?,
                present(row.get::<bool>(2)?, "rolcanlogin")?,
                present(row.get::<bool>(3)?, "privilege")?,
                present(row.get::<String>(4)?, "database")?,
            ))
        },
    )?;
    let failure = |message: String, hint: String| {
        Some(Failure { sqlstate: "28000".into(), message, detail: None, hint: Some(hint) })
    };
    Ok(match found {
        None => failure(
            format!("the owner, role {}, does not exist any more", role.to_u32()),
            "A superuser can drop the job by persona.drop_job; add it again as another role.".into(),
        ),
        Some((name, false, ..)) => failure(
            format!("the owner \"{name}\" may not log in, so no worker can run its jobs"),
            format!("ALTER ROLE {} LOGIN; or run the job in the foreground by CALL persona.run_job.", quoted(&name)),
        ),
        Some((name, true, false, database)) => failure(
            format!("the owner \"{name}\" may not connect to database \"{database}\""),
            format!("GRANT CONNECT ON DATABASE {} TO {};", quoted(&database), quoted(&name)),
        ),
        Some((_, true, true, _)) => None,
    })
}

fn quoted(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}
