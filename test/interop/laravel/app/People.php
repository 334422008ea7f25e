<?php

declare(strict_types=1);

namespace App;

use Illuminate\Contracts\Auth\Authenticatable;
use Illuminate\Contracts\Auth\UserProvider;

/** Everybody who says a number: there is no database here. */
final class People implements UserProvider
{
    public function retrieveById($identifier)
    {
        return User::of($identifier);
    }

    public function retrieveByToken($identifier, $token)
    {
        return null;
    }

    public function updateRememberToken(Authenticatable $user, $token)
    {
    }

    public function retrieveByCredentials(array $credentials)
    {
        return User::of($credentials['id']);
    }

    public function validateCredentials(Authenticatable $user, array $credentials)
    {
        return true;
    }
}
