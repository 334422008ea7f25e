<?php

declare(strict_types=1);

namespace App;

use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\Facades\Route;
use Illuminate\Support\ServiceProvider;

final class AppServiceProvider extends ServiceProvider
{
    public function boot(): void
    {
        Auth::provider('people', static fn () => new People());
        Route::middleware('web')->group(base_path('routes/web.php'));
        // As App\Providers\BroadcastServiceProvider has it.
        Broadcast::routes();
        require base_path('routes/channels.php');
    }
}
